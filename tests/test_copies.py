"""The leak test: copies of pictures are found, however they were saved, and different pictures are kept apart."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.copies import CHANGES, crop
from stages.dataset.copies import find_near_pairs, group_copies
from stages.dataset.perceptual_hashes import N_BITS, hash_likeness
from stages.drawing.flowers import draw_picture
from stages.drawing.species import read_target_species
from stages.pixels.decoding import hash_pixels

MAX_BITS = 48
FOUND_LESS_OFTEN = (
    "cropped by 10 %",
    "cropped by 3 % at one corner",
    "cropped by 6 % at one corner",
)  # see docs/copies.md


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Return a picture of each of the 104 drawn classes, 96 px."""
    species = read_target_species()
    return [draw_picture(each, 96, np.random.default_rng(i)) for i, each in enumerate(species.values())]


def _group(images: list[Image.Image], max_bits: int = MAX_BITS) -> list[str]:
    return group_copies([hash_pixels(each) for each in images], [hash_likeness(each) for each in images], max_bits)


def test_different_pictures_are_all_kept_apart(pictures):
    assert len(set(_group(pictures))) == len(pictures) == 104


@pytest.mark.parametrize("change", [name for name in CHANGES if name not in FOUND_LESS_OFTEN])
def test_every_changed_copy_is_grouped_with_its_original_and_with_no_other(pictures, change):
    groups = _group(pictures + [CHANGES[change](picture) for picture in pictures])
    assert groups[:104] == groups[104:]
    assert len(set(groups)) == 104


def test_without_a_threshold_only_equal_pixels_are_copies(pictures):
    images = [pictures[0], pictures[0].copy(), ImageOps.mirror(pictures[0]), pictures[1]]
    groups = _group(images, max_bits=0)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_a_group_bears_the_smallest_hash_of_its_pictures(pictures):
    images = [pictures[0], ImageOps.mirror(pictures[0])]
    assert set(_group(images)) == {min(map(hash_pixels, images))[:16]}


def test_plain_pictures_are_compared_by_their_pixels_alone():
    plain = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red", "red", (254, 0, 0))]
    assert [hash_likeness(each) for each in plain] == [None] * 5
    groups = _group(plain)
    assert groups[2] == groups[3]
    assert len(set(groups)) == 4


def test_copies_of_copies_are_one_group(pictures):
    images = [crop(share)(pictures[0]) for share in (0, 0.09, 0.18)]
    hashes = [hash_likeness(each) for each in images]
    assert np.unpackbits(hashes[0][0] ^ hashes[2][0]).sum() > MAX_BITS  # the ends are not close to one another
    assert len(set(_group(images))) == 1


def test_all_pairs_well_within_the_threshold_are_found_and_none_beyond_it():
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 2, (300, N_BITS), dtype=np.uint8)
    changed = originals.copy()
    for row, n_bits in zip(changed, range(300), strict=True):
        # as copies do: mostly the higher frequencies change
        row[rng.permutation(np.arange(128, N_BITS))[: n_bits % 61]] ^= 1
    hashes = np.packbits(np.concatenate([originals, changed]), axis=1)[:, None].repeat(4, axis=1)
    pairs = {tuple(sorted(pair)) for pair in find_near_pairs(hashes, MAX_BITS).tolist()}
    expected = {(i, 300 + i) for i in range(300) if i % 61 <= MAX_BITS}
    assert pairs == expected


def test_no_picture_and_one_picture_have_no_copies(pictures):
    assert group_copies([], [], MAX_BITS) == []
    assert len(_group(pictures[:1])) == 1
