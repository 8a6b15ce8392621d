"""Batches: which pixels they hold, how they are normalised, and which rows each process gets."""

import numpy as np
import pytest
import torch

from stages.networks.batches import (
    MEAN,
    STD,
    Changes,
    View,
    iterate_batches,
    make_batch,
    no_changes,
    predict_batches,
    share_rows,
)
from stages.networks.devices import choose_device
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError

CPU = torch.device("cpu")
STORED, SIZE = 6, 4
VIEW = View(SIZE, MEAN, STD, CPU)


def _images(n: int) -> np.ndarray:
    """Return images, uint8 (n, STORED, STORED, 3), whose pixels say where they are: (image, row, column) * 10."""
    positions = np.stack(np.meshgrid(np.arange(n), np.arange(STORED), np.arange(STORED), indexing="ij"), axis=-1)
    return (10 * positions).astype(np.uint8)


def _pack(n: int) -> PackedSplit:
    return PackedSplit(_images(n), np.arange(n) % 3)


def _positions(batch: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: (batch, height, width, 3) of image, row and column."""
    positions = (batch.permute(0, 2, 3, 1).double().numpy() * STD + MEAN) * 255 / 10
    np.testing.assert_allclose(positions, positions.round(), rtol=0, atol=1e-4)
    return positions.round().astype(int)


def _changes(top: list[int], left: list[int], flip: list[bool], affine=None, colour=None) -> Changes:
    return Changes(torch.tensor(top), torch.tensor(left), torch.tensor(flip), affine, colour)


def test_a_crop_begins_at_its_own_row_and_column_and_a_flip_mirrors_its_columns():
    batch = make_batch(_images(3), torch.tensor([2, 0]), _changes([0, 2], [1, 2], [False, True]), VIEW)
    found = _positions(batch)
    assert found.shape == (2, SIZE, SIZE, 3)
    assert found[0, :, 0].tolist() == [[2, 0, 1], [2, 1, 1], [2, 2, 1], [2, 3, 1]]  # image 2, rows 0-3, column 1
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 4]
    assert found[1, :, 0].tolist() == [[0, 2, 5], [0, 3, 5], [0, 4, 5], [0, 5, 5]]
    assert found[1, 0, :, 2].tolist() == [5, 4, 3, 2]


def test_pixels_are_normalised_by_the_views_mean_and_deviation():
    images = np.array([[[[255, 0, 51]]]], dtype=np.uint8)
    view = View(1, (0.5, 0.25, 0.4), (0.5, 0.125, 0.1), CPU)
    # (1 - 0.5) / 0.5, (0 - 0.25) / 0.125, (0.2 - 0.4) / 0.1
    batch = make_batch(images, torch.tensor([0]), no_changes(1, 0), view)
    assert batch.flatten().tolist() == pytest.approx([1.0, -2.0, -2.0], abs=1e-6)


def test_the_identity_as_affine_and_colour_factors_of_1_change_nothing():
    plain = make_batch(_images(2), torch.arange(2), no_changes(2, 2), VIEW)
    identity = _changes([1, 1], [1, 1], [False, False], torch.eye(2, 3).expand(2, 2, 3), torch.ones(2, 3))
    changed = make_batch(_images(2), torch.arange(2), identity, VIEW)
    np.testing.assert_allclose(changed, plain, rtol=0, atol=1e-5)
    for batch in (plain, changed):
        assert (batch.dtype, batch.shape) == (torch.float32, (2, 3, SIZE, SIZE))
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_an_affine_shift_of_a_pixel_moves_the_image_by_a_pixel():
    # grid coordinates run from -1 to 1 over four pixels: a pixel is 0.5; the output takes what lies right of it
    changes = _changes([0], [0], [False], torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]]))
    found = _positions(make_batch(_images(1), torch.tensor([0]), changes, VIEW))
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 3]  # beyond the edge: reflected
    assert found[0, :, 0, 1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((0.5, 1, 1), [[50, 50, 50], [10, 20, 30]]),
        ((1, 0.5, 1), [[85, 85, 85], [45, 55, 65]]),  # half way to 70, the mean of all six values
        ((1, 1, 0), [[100, 100, 100], [40, 40, 40]]),  # to each pixel's own mean
        ((4, 1, 1), [[255, 255, 255], [80, 160, 240]]),  # no more than white
    ],
)
def test_brightness_contrast_and_saturation_by_hand(factors, expected):
    images = np.array([[[[100, 100, 100], [20, 40, 60]]] * 2], dtype=np.uint8)
    changes = _changes([0], [0], [False], colour=torch.tensor([factors], dtype=torch.float32))
    batch = make_batch(images, torch.tensor([0]), changes, View(2, (0, 0, 0), (1, 1, 1), CPU))
    np.testing.assert_allclose(255 * batch[0, :, 0].T, expected, rtol=0, atol=1e-3)


def test_the_order_is_the_one_that_was_given_and_changes_follow_it():
    changes = _changes([0, 1, 2, 0], [0, 0, 0, 0], [False] * 4)
    batches = list(iterate_batches(_pack(5), torch.tensor([4, 0, 3, 1]), changes, 2, VIEW))
    found = _positions(torch.cat([images for images, _ in batches]))
    assert found[:, 0, 0].tolist() == [[4, 0, 0], [0, 1, 0], [3, 2, 0], [1, 0, 0]]
    assert torch.cat([labels for _, labels in batches]).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(8, 3, [3, 3, 2]), (7, 3, [3, 4]), (1, 3, [1])],  # an image alone joins the batch before it
)
def test_no_image_is_lost_and_none_is_alone_at_the_end(n, batch_size, sizes):
    batches = list(iterate_batches(_pack(n), torch.arange(n), no_changes(n, 2), batch_size, VIEW))
    assert [len(images) for images, _ in batches] == [len(labels) for _, labels in batches] == sizes


@pytest.mark.parametrize(("n", "count"), [(23, 3), (6, 3), (2, 3), (9, 1)])
def test_the_shares_of_all_processes_hold_each_image_once(n, count):
    parts = [range(n)[share_rows(0, n, (rank, count))] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    found = []
    for rank in range(count):
        batches = predict_batches(lambda images: images, _pack(n), 4, VIEW, (rank, count))
        found += [image for images, _ in batches for image in _positions(images)[:, 0, 0].tolist()]
    assert found == [[image, 1, 1] for image in range(n)]  # centre crops: margin 2, one pixel on each side


@pytest.mark.parametrize(("limit", "sizes"), [(8, [8, 3]), (3, [2, 2, 2, 2, 3]), (1, None)])
def test_batches_that_do_not_fit_are_halved_and_no_image_is_lost(limit, sizes):
    def predict(images: torch.Tensor) -> torch.Tensor:
        if len(images) > limit:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return images

    batches = predict_batches(predict, _pack(11), 8, VIEW)
    if limit == 1:  # the last image would join the one before it
        with pytest.raises(torch.OutOfMemoryError):
            list(batches)
        return
    found, labels = map(list, zip(*batches, strict=True))
    assert [len(images) for images in found] == sizes
    assert _positions(torch.cat(found))[:, 0, 0, 0].tolist() == list(range(11))
    assert torch.cat(labels).tolist() == [i % 3 for i in range(11)]


def test_each_process_takes_its_share_of_every_batch():
    n, count = 23, 3
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    arguments = (_pack(n), order, no_changes(n, 2), 7, VIEW)
    whole = [_positions(images)[:, 0, 0, 0].tolist() for images, _ in iterate_batches(*arguments)]
    shares = [list(iterate_batches(*arguments, share=(rank, count))) for rank in range(count)]
    # the last two images are too few for three processes, which need two each: they join the batch before
    assert [sum(len(images) for images, _ in batches) for batches in zip(*shares, strict=True)] == [7, 7, 9]
    joined = [image for batches in zip(*shares, strict=True) for images, _ in batches for image in images]
    assert _positions(torch.stack(joined))[:, 0, 0, 0].tolist() == [image for batch in whole for image in batch]


def test_a_device_that_is_not_here_is_a_users_mistake(monkeypatch):
    monkeypatch.setenv("QUINTET_DEVICE", "cpu")
    assert choose_device() == CPU
    for name in ("gpu", "cuda:99"):
        monkeypatch.setenv("QUINTET_DEVICE", name)
        with pytest.raises(UserError, match=f"QUINTET_DEVICE={name}"):
            choose_device()


def test_one_gpu_is_refused_to_several_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("QUINTET_DEVICE", "cuda:0")
    with pytest.raises(UserError, match="a GPU each"):
        choose_device()
