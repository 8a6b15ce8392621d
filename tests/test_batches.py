"""Batches: which pixels they hold, how they are normalised, and what their random changes depend on."""

import math

import numpy as np
import pytest
import torch

from stages.networks.batches import (
    Changes,
    draw_changes,
    evaluation_batches,
    iterate_batches,
    make_batch,
    no_changes,
    place_pack,
)
from stages.pixels.packed_splits import Pack
from stages.settings.types import Augment

CPU = torch.device("cpu")
STORED, SIZE = 6, 4
NOTHING = Augment(crop=False, flip=False, rotation_deg=0, zoom=0, shift=0, colour=0, policy="none")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def _images(n: int) -> torch.Tensor:
    """Return images, uint8 (n, STORED, STORED, 3), whose pixels say where they are: (image, row, column) * 10."""
    positions = np.stack(np.meshgrid(np.arange(n), np.arange(STORED), np.arange(STORED), indexing="ij"), axis=-1)
    return torch.from_numpy((10 * positions).astype(np.uint8))


def _placed(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return place_pack(Pack(_images(n).numpy(), np.arange(n) % 3), CPU)


def _positions(batch: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: (batch, height, width, 3) of image, row and column."""
    pixels = batch.permute(0, 2, 3, 1).double().numpy() * STD + MEAN
    positions = pixels * 255 / 10
    np.testing.assert_allclose(positions, positions.round(), rtol=0, atol=1e-4)
    return positions.round().astype(int)


def _changes(top: list[int], left: list[int], flip: list[bool], affine=None, colour=None) -> Changes:
    return Changes(torch.tensor(top), torch.tensor(left), torch.tensor(flip), affine, colour)


def _augment(**settings) -> Augment:
    return NOTHING.model_copy(update=settings)


def test_a_crop_begins_at_its_own_row_and_column():
    batch = make_batch(_images(3), torch.tensor([2, 0]), _changes([0, 2], [1, 0], [False, False]), SIZE)
    found = _positions(batch)
    assert found.shape == (2, SIZE, SIZE, 3)
    assert found[0, :, 0].tolist() == [[2, 0, 1], [2, 1, 1], [2, 2, 1], [2, 3, 1]]  # image 2, rows 0-3, column 1
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 4]
    assert found[1, :, 0].tolist() == [[0, 2, 0], [0, 3, 0], [0, 4, 0], [0, 5, 0]]
    assert found[1, 0, :, 2].tolist() == [0, 1, 2, 3]


def test_a_flip_mirrors_the_columns_of_the_crop_and_leaves_the_rows():
    batch = make_batch(_images(2), torch.tensor([0, 1]), _changes([1, 1], [2, 2], [True, False]), SIZE)
    found = _positions(batch)
    assert found[0, 0, :, 2].tolist() == [5, 4, 3, 2]  # columns 2-5 from right to left
    assert found[1, 0, :, 2].tolist() == [2, 3, 4, 5]
    assert found[0, :, 0, 1].tolist() == found[1, :, 0, 1].tolist() == [1, 2, 3, 4]


def test_pixels_are_normalised_by_the_mean_and_deviation_of_imagenet():
    images = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(1, 1, 1, 3).contiguous()
    batch = make_batch(images, torch.tensor([0]), no_changes(1, 0), 1)
    # (1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225
    torch.testing.assert_close(batch.flatten(), torch.tensor([2.2489083, -2.0357143, -0.9155556]), rtol=0, atol=1e-6)


def test_batches_are_float32_in_channels_last_order():
    affine = torch.eye(2, 3).expand(3, 2, 3)
    for changes in (no_changes(3, 2), _changes([0] * 3, [0] * 3, [True] * 3, affine, torch.ones(3, 3))):
        batch = make_batch(_images(3), torch.arange(3), changes, SIZE)
        assert batch.dtype == torch.float32
        assert batch.shape == (3, 3, SIZE, SIZE)
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_the_identity_as_affine_and_colour_factors_of_1_change_nothing():
    plain = make_batch(_images(2), torch.arange(2), no_changes(2, 2), SIZE)
    identity = _changes([1, 1], [1, 1], [False, False], torch.eye(2, 3).expand(2, 2, 3), torch.ones(2, 3))
    torch.testing.assert_close(make_batch(_images(2), torch.arange(2), identity, SIZE), plain, rtol=0, atol=1e-5)


def test_an_affine_shift_of_a_pixel_moves_the_image_by_a_pixel():
    # grid coordinates run from -1 to 1 over four pixels: a pixel is 0.5; the output takes what lies right of it
    affine = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
    changes = _changes([0], [0], [False], affine)
    found = _positions(make_batch(_images(1), torch.tensor([0]), changes, SIZE))
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 3]  # beyond the edge: reflected
    assert found[0, :, 0, 1].tolist() == [0, 1, 2, 3]


def test_brightness_contrast_and_saturation_by_hand():
    # two pixels, (100, 100, 100) and (20, 40, 60); mean of all six values: 70
    images = torch.tensor([[[[100, 100, 100], [20, 40, 60]]] * 2], dtype=torch.uint8)

    def change(*factors: float) -> list[list[float]]:
        changes = _changes([0], [0], [False], colour=torch.tensor([factors]))
        batch = make_batch(images, torch.tensor([0]), changes, 2)
        return (255 * (batch[0, :, 0].T.double() * torch.tensor(STD) + torch.tensor(MEAN))).round(decimals=3).tolist()

    assert change(0.5, 1, 1) == [[50, 50, 50], [10, 20, 30]]
    assert change(1, 0.5, 1) == [[85, 85, 85], [45, 55, 65]]  # half as far from 70
    assert change(1, 1, 0.5) == [[100, 100, 100], [30, 40, 50]]  # half as far from the pixel's own mean, 40
    assert change(3, 1, 1) == [[255, 255, 255], [60, 120, 180]]  # never beyond white


def test_no_augmentation_is_the_centre_crop():
    changes = draw_changes(5, 2, NOTHING, torch.Generator().manual_seed(1))
    centre = no_changes(5, 2)
    assert changes.top.tolist() == changes.left.tolist() == centre.top.tolist() == [1] * 5
    assert changes.flip.tolist() == centre.flip.tolist() == [False] * 5
    assert changes.affine is changes.colour is centre.affine is centre.colour is None


def test_changes_depend_on_the_seed_alone():
    augment = _augment(crop=True, flip=True, rotation_deg=15, zoom=0.25, shift=0.125, colour=0.25)

    def draw(seed: int) -> list[torch.Tensor]:
        changes = draw_changes(50, 8, augment, torch.Generator().manual_seed(seed))
        return [changes.top, changes.left, changes.flip, changes.affine, changes.colour]

    first = draw(1)
    torch.manual_seed(123)  # the global generator has no say
    assert all(torch.equal(one, other) for one, other in zip(first, draw(1), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(first, draw(2), strict=True))


def test_crops_reach_every_place_and_no_other():
    changes = draw_changes(500, 2, _augment(crop=True), torch.Generator().manual_seed(1))
    assert set(changes.top.tolist()) == set(changes.left.tolist()) == {0, 1, 2}


def test_half_of_the_images_are_flipped():
    changes = draw_changes(2000, 0, _augment(flip=True), torch.Generator().manual_seed(1))
    assert changes.flip.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_affine_and_colour_stay_in_their_bounds():
    augment = _augment(rotation_deg=30, zoom=0.25, shift=0.125, colour=0.5)
    changes = draw_changes(2000, 0, augment, torch.Generator().manual_seed(1))
    scale = changes.affine[:, 0, :2].norm(dim=1)
    angle = torch.atan2(changes.affine[:, 1, 0], changes.affine[:, 0, 0]).rad2deg()
    for values, low, high in (
        (scale, 1 / 1.25, 1 / 0.75),
        (angle, -30, 30),
        (changes.affine[:, :, 2], -0.25, 0.25),  # an eighth of the width, which is 2
        (changes.colour, 0.5, 1.5),
    ):
        margin = 0.02 * (high - low)
        assert low - 1e-4 <= values.min() <= low + margin
        assert high - margin <= values.max() <= high + 1e-4


def test_rotation_keeps_angles_and_lengths():
    changes = draw_changes(10, 0, _augment(rotation_deg=90), torch.Generator().manual_seed(1))
    turns = changes.affine[:, :, :2]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(2).expand(10, 2, 2), rtol=0, atol=1e-6)
    assert changes.affine[:, :, 2].abs().max() == 0


def test_evaluation_gives_the_centre_crops_in_the_packs_order():
    batches = list(evaluation_batches(_placed(7), 3, SIZE, CPU))
    found = _positions(torch.cat([images for images, _ in batches]))
    assert found[:, 0, 0].tolist() == [[image, 1, 1] for image in range(7)]  # margin 2: one pixel on each side
    assert found[:, -1, -1].tolist() == [[image, 4, 4] for image in range(7)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_order_is_the_one_that_was_given_and_changes_follow_it():
    order = torch.tensor([4, 0, 3, 1])
    changes = _changes([0, 1, 2, 0], [0, 0, 0, 0], [False] * 4)
    batches = list(iterate_batches(_placed(5), order, changes, 2, SIZE, CPU))
    found = _positions(torch.cat([images for images, _ in batches]))
    assert found[:, 0, 0].tolist() == [[4, 0, 0], [0, 1, 0], [3, 2, 0], [1, 0, 0]]
    assert torch.cat([labels for _, labels in batches]).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [
        (6, 3, [3, 3]),
        (8, 3, [3, 3, 2]),
        (7, 3, [3, 4]),  # an image alone joins the batch before it
        (1, 3, [1]),
        (5, 2, [2, 3]),
        (2, 5, [2]),
    ],
)
def test_no_image_is_lost_and_none_is_alone_at_the_end(n, batch_size, sizes):
    batches = list(iterate_batches(_placed(n), torch.arange(n), no_changes(n, 2), batch_size, SIZE, CPU))
    assert [len(images) for images, _ in batches] == [len(labels) for _, labels in batches] == sizes
    assert _positions(torch.cat([images for images, _ in batches]))[:, 0, 0, 0].tolist() == list(range(n))


def test_a_turn_by_the_drawn_angle_is_the_same_in_rows_and_columns():
    changes = draw_changes(20, 0, _augment(rotation_deg=10, zoom=0.5), torch.Generator().manual_seed(2))
    (a, b), (c, d) = changes.affine[:, 0, :2].T, changes.affine[:, 1, :2].T
    torch.testing.assert_close(a, d)
    torch.testing.assert_close(b, -c)
    assert (torch.atan2(c, a).abs() <= math.radians(10) + 1e-6).all()
