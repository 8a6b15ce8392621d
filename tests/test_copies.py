"""The leak test: copies of pictures are found, however they were saved, and different pictures are kept apart."""

import random
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.copies import CHANGES, crop
from stages.dataset import copies
from stages.dataset.copies import group_copies, group_near
from stages.dataset.perceptual_hashes import N_BITS, hash_likeness
from stages.drawing.flowers import draw_picture
from stages.drawing.species import read_target_species
from stages.pixels.decoding import hash_pixels

MAX_BITS = 48
FOUND_LESS_OFTEN = ("cropped by 10 %", "cropped by 3 % at one corner", "cropped by 6 % at one corner")  # docs/copies.md


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Return a picture of each of 45 drawn classes, 96 px."""
    species = list(read_target_species().values())[:45]
    return [draw_picture(each, 96, np.random.default_rng(i)) for i, each in enumerate(species)]


def _group(images: list[Image.Image], max_bits: int = MAX_BITS) -> list[str]:
    return group_copies([hash_pixels(each) for each in images], [hash_likeness(each) for each in images], max_bits)


def test_every_changed_copy_is_grouped_with_its_original_and_with_no_other(pictures):
    changes = [change for name, change in CHANGES.items() if name not in FOUND_LESS_OFTEN]  # 15 of them
    groups = _group(pictures + [changes[i % len(changes)](picture) for i, picture in enumerate(pictures)])
    assert groups[:45] == groups[45:]
    assert len(set(groups)) == 45


def test_averaging_pixels_first_changes_hardly_a_bit_of_a_large_picture_and_none_of_a_small_one(pictures, monkeypatch):
    large = [picture.resize((800, 500), Image.Resampling.BICUBIC) for picture in pictures[:8]]
    with_averages = np.stack([hash_likeness(each) for each in large + pictures[:8]])
    monkeypatch.setattr("stages.dataset.perceptual_hashes.REDUCING_GAP", None)
    exact = np.stack([hash_likeness(each) for each in large + pictures[:8]])
    bits = np.unpackbits(with_averages ^ exact, axis=2).sum(axis=2)  # (16, 4)
    assert 0 < bits[:8].max() <= 6
    assert not bits[8:].any()


def test_the_middle_of_a_picture_has_nearly_the_hash_of_the_picture_cut_to_it(pictures):
    large = [picture.resize((200, 300), Image.Resampling.BICUBIC) for picture in pictures[:20]]
    middle = np.stack([hash_likeness(each)[2] for each in large])
    cut = np.stack([hash_likeness(each.crop((6, 9, 194, 291)))[0] for each in large])
    assert np.unpackbits(middle ^ cut, axis=1).sum(axis=1).max() <= 8
    assert np.unpackbits(middle ^ np.stack([hash_likeness(each)[0] for each in large]), axis=1).sum(axis=1).min() > 8


def test_without_a_threshold_only_equal_pixels_are_copies(pictures):
    images = [pictures[0], pictures[0].copy(), ImageOps.mirror(pictures[0]), pictures[1]]
    names = [hash_pixels(image)[:16] for image in images]
    assert _group(images, max_bits=0) == names
    assert _group(images) == [min(names[:3])] * 3 + [names[3]]  # a group has the name of its smallest hash


def test_plain_pictures_are_compared_by_their_pixels_alone():
    plain = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red", "red", (254, 0, 0))]
    assert [hash_likeness(each) for each in plain] == [None] * 5
    groups = _group(plain)
    assert groups[2] == groups[3]
    assert len(set(groups)) == 4


def test_copies_of_copies_are_one_group(pictures):
    images = [crop(share)(pictures[0]) for share in (0, 0.09, 0.18)]
    hashes = [hash_likeness(each) for each in images]
    assert np.unpackbits(hashes[0][0] ^ hashes[2][0]).sum() > MAX_BITS  # the first and the last are not similar
    assert len(set(_group(images))) == 1


def test_no_picture_and_one_picture_have_no_copies(pictures):
    assert group_copies([], [], MAX_BITS) == []
    assert len(_group(pictures[:1])) == 1


def _hashes(bits: np.ndarray) -> np.ndarray:
    """Pack bits, (n, N_BITS), into hashes with four equal views."""
    return np.packbits(bits, axis=1)[:, None].repeat(4, axis=1)


def test_pictures_within_the_threshold_are_grouped_and_none_beyond_it_wherever_they_differ():
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 2, (300, N_BITS), dtype=np.uint8)
    changed = originals.copy()
    for i, row in enumerate(changed):
        row[rng.permutation(N_BITS)[: MAX_BITS + i % 2]] ^= 1
    groups = group_near(_hashes(np.concatenate([originals, changed])), MAX_BITS)
    assert groups[:300].tolist() == list(range(300))
    assert groups[300:].tolist() == [300 + i if i % 2 else i for i in range(300)]


def test_of_very_many_pictures_close_copies_are_found_without_comparing_all(monkeypatch):
    monkeypatch.setattr(copies, "MAX_PAIRS", 0)
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 2, (300, N_BITS), dtype=np.uint8)
    changed = originals.copy()
    for i, row in enumerate(changed):
        row[rng.permutation(N_BITS)[: 10 if i % 2 else MAX_BITS + 1]] ^= 1
    groups = group_near(_hashes(np.concatenate([originals, changed])), MAX_BITS)
    assert groups[300:].tolist() == [i if i % 2 else 300 + i for i in range(300)]


def test_groups_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (30, N_BITS), dtype=np.uint8).repeat(20, axis=0)
    bits ^= rng.random(bits.shape) < 0.09  # some are near each other, some through others, some not at all
    order = list(range(600))
    random.Random(0).shuffle(order)
    names = [f"{i:016x}" for i in range(600)]
    groups = group_copies(names, list(_hashes(bits)), MAX_BITS)
    assert 30 < len(set(groups)) < 600
    shuffled = group_copies([names[i] for i in order], list(_hashes(bits[order])), MAX_BITS)
    assert shuffled == [groups[i] for i in order]


def test_crowds_of_alike_frames_are_a_group_each_in_little_memory_and_one_picture_joins_two():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 2, (2, 1, N_BITS), dtype=np.uint8)
    frames[1] = frames[0]
    frames[1, 0, :80] ^= 1
    crowds = np.tile(frames, (1, 1000, 1))
    crowds[:, :, 128:] ^= rng.random((2, 1000, 128)) < 0.06  # about eight bits differ: two time-lapses
    between = frames[0].copy()
    between[0, :40] ^= 1  # nearest to it are 1,000 frames of each, at some 48 bits
    tracemalloc.start()
    groups = group_near(_hashes(crowds.reshape(2000, N_BITS)), MAX_BITS)
    assert tracemalloc.get_traced_memory()[1] < 64e6  # their eight million pairs would take 128 MB
    tracemalloc.stop()
    assert groups.tolist() == [0] * 1000 + [1000] * 1000
    assert set(group_near(_hashes(np.concatenate([crowds.reshape(2000, N_BITS), between])), MAX_BITS)) == {0}
