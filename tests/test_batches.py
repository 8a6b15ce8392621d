"""Batches: which pixels they contain, how they are normalised, and which rows each process gets."""

import resource
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.inference.probabilities import predict_proba
from stages.networks.batches import (
    MEAN,
    STD,
    Changes,
    View,
    centre_crops,
    make_batch,
    predict_batches,
)
from stages.networks.devices import choose_device
from stages.runtime.errors import UserError
from tests.trainings import noise_split, tiny_cnn

CPU = torch.device("cpu")
STORED, SIZE = 6, 4
VIEW = View(STORED, SIZE, MEAN, STD, CPU)


def _images(n: int) -> np.ndarray:
    """Return images, uint8 (n, STORED, STORED, 3), whose pixels encode their position: (image, row, column) * 10."""
    positions = np.stack(np.meshgrid(np.arange(n), np.arange(STORED), np.arange(STORED), indexing="ij"), axis=-1)
    return (10 * positions).astype(np.uint8)


def _positions(batch: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: (batch, height, width, 3) of image, row and column."""
    positions = (batch.permute(0, 2, 3, 1).double().numpy() * STD + MEAN) * 255 / 10
    np.testing.assert_allclose(positions, positions.round(), rtol=0, atol=1e-4)
    return positions.round().astype(int)


def _changes(top: list[int], left: list[int], flip: list[bool], affine=None, colour=None) -> Changes:
    return Changes(torch.tensor(top), torch.tensor(left), torch.tensor(flip), affine, colour)


def test_a_crop_begins_at_its_own_row_and_column_and_a_flip_mirrors_its_columns():
    batch = make_batch(_images(3), torch.tensor([2, 0]), VIEW, _changes([0, 2], [1, 2], [False, True]))
    found = _positions(batch)
    assert found.shape == (2, SIZE, SIZE, 3)
    assert found[0, :, 0].tolist() == [[2, 0, 1], [2, 1, 1], [2, 2, 1], [2, 3, 1]]  # image 2, rows 0-3, column 1
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 4]
    assert found[1, :, 0].tolist() == [[0, 2, 5], [0, 3, 5], [0, 4, 5], [0, 5, 5]]
    assert found[1, 0, :, 2].tolist() == [5, 4, 3, 2]


def test_a_policy_changes_each_image_before_it_is_flipped():
    def turn(image: torch.Tensor) -> torch.Tensor:
        assert (image.dtype, image.shape) == (torch.uint8, (3, SIZE, SIZE))
        return image.transpose(1, 2)

    changes = _changes([0, 2], [1, 2], [False, True])
    found = _positions(make_batch(_images(2), torch.arange(2), VIEW, changes, turn))
    assert found[:, 0].tolist() == [[[0, row, 1] for row in (0, 1, 2, 3)], [[1, row, 2] for row in (5, 4, 3, 2)]]


def test_all_that_a_batch_is_made_of_is_sent_to_the_device_of_its_view():
    view = replace(VIEW, device=torch.device("meta"))
    changes = replace(_changes([0, 2], [1, 2], [False, True]), erase=torch.zeros(2, 4))
    batch = make_batch(_images(2), torch.arange(2), view, changes)
    assert (batch.device, batch.shape) == (view.device, (2, 3, SIZE, SIZE))


def test_pixels_are_normalised_by_the_views_mean_and_deviation():
    images = np.array([[[[255, 0, 51]]]], dtype=np.uint8)
    view = View(1, 1, (0.5, 0.25, 0.4), (0.5, 0.125, 0.1), CPU)
    # (1 - 0.5) / 0.5, (0 - 0.25) / 0.125, (0.2 - 0.4) / 0.1
    batch = make_batch(images, torch.tensor([0]), view)
    assert batch.flatten().tolist() == pytest.approx([1.0, -2.0, -2.0], abs=1e-6)


def test_the_identity_as_affine_and_colour_factors_of_1_change_nothing():
    plain = make_batch(_images(2), torch.arange(2), VIEW)
    identity = _changes([1, 1], [1, 1], [False, False], torch.eye(2, 3).expand(2, 2, 3), torch.ones(2, 3))
    changed = make_batch(_images(2), torch.arange(2), VIEW, identity)
    np.testing.assert_allclose(changed, plain, rtol=0, atol=1e-5)
    for batch in (plain, changed):
        assert (batch.dtype, batch.shape) == (torch.float32, (2, 3, SIZE, SIZE))
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_an_affine_shift_of_a_pixel_moves_the_image_by_a_pixel():
    # grid coordinates run from -1 to 1 over four pixels: a pixel is 0.5; the output shows the pixels right of it
    changes = _changes([0], [0], [False], torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]]))
    found = _positions(make_batch(_images(1), torch.tensor([0]), VIEW, changes))
    assert found[0, 0, :, 2].tolist() == [1, 2, 3, 3]  # beyond the edge: reflected
    assert found[0, :, 0, 1].tolist() == [0, 1, 2, 3]


def test_a_change_without_a_crop_takes_its_box_out_of_the_whole_stored_picture():
    # columns 1 to 3 and rows 2 to 4 of six: half of each side, with its centre a sixth left of and below the middle
    box = torch.tensor([[[0.5, 0, -1 / 6], [0, 0.5, 1 / 6]]]).expand(2, 2, 3)
    view, flip = View(STORED, 3, MEAN, STD, CPU), torch.tensor([False, True])
    found = _positions(make_batch(_images(2), torch.arange(2), view, Changes(None, None, flip, box)))
    assert found[0, :, 0].tolist() == [[0, 2, 1], [0, 3, 1], [0, 4, 1]]
    assert found[0, 0, :, 2].tolist() == [1, 2, 3]
    assert found[1, 0].tolist() == [[1, 2, 4], [1, 2, 3], [1, 2, 2]]  # of the mirrored picture


def test_a_box_is_erased_to_the_mean_and_one_without_size_is_none():
    plain = make_batch(_images(2), torch.arange(2), VIEW)
    changes = replace(centre_crops(2, VIEW), erase=torch.tensor([[0.375, 0.5, 0.5, 0.2], [0.375, 0.375, 0, 0]]))
    erased = make_batch(_images(2), torch.arange(2), VIEW, changes.of(slice(0, 2)))
    expected = plain.clone()
    expected[0, :, 2, 1:3] = 0  # centres are at 0.125, 0.375, 0.625 and 0.875: that of row 3 is beyond 0.5 + 0.2
    assert torch.equal(erased, expected)
    assert plain.all()
    assert erased.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((0.5, 1, 1), [[50, 50, 50], [10, 20, 30]]),
        ((1, 0.5, 1), [[85, 85, 85], [45, 55, 65]]),  # halfway to 70, the mean of all six values
        ((1, 1, 0), [[100, 100, 100], [40, 40, 40]]),  # to each pixel's own mean
        ((4, 1, 1), [[255, 255, 255], [80, 160, 240]]),  # no more than white
        ((1, 3, 1), [[160, 160, 160], [0, 0, 40]]),  # no less than black
    ],
)
def test_brightness_contrast_and_saturation_by_hand(factors, expected):
    images = np.array([[[[100, 100, 100], [20, 40, 60]]] * 2, [[[9, 8, 7], [6, 5, 4]]] * 2], dtype=np.uint8)
    changes = _changes([0] * 2, [0] * 2, [False] * 2, colour=torch.tensor([factors, (1, 1, 1)], dtype=torch.float32))
    batch = make_batch(images, torch.tensor([0, 1]), View(2, 2, (0, 0, 0), (1, 1, 1), CPU), changes)
    np.testing.assert_allclose(255 * batch[1, :, 0].T, images[1, 0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(255 * batch[0, :, 0].T, expected, rtol=0, atol=1e-3)


def test_images_come_in_the_order_of_their_indices_and_changes_follow_it():
    changes = _changes([0, 1, 2, 0], [0, 0, 0, 0], [False] * 4)
    found = _positions(make_batch(_images(5), torch.tensor([4, 0, 3, 1]), VIEW, changes))
    assert found[:, 0, 0].tolist() == [[4, 0, 0], [0, 1, 0], [3, 2, 0], [1, 0, 0]]
    assert centre_crops(2, VIEW).of(slice(1, 2)).top.tolist() == [1]
    assert centre_crops(2, VIEW).flip.dtype == torch.bool


@pytest.mark.parametrize(("limit", "sizes"), [(8, [8, 3]), (3, [2, 2, 2, 2, 2, 1]), (1, [1] * 11), (0, None)])
def test_predictions_are_of_centre_crops_and_batches_that_do_not_fit_are_halved(limit, sizes):
    def predict(images: torch.Tensor) -> torch.Tensor:
        if len(images) > limit:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return images

    batches = predict_batches(predict, _images(11), 8, VIEW)
    if limit == 0:
        with pytest.raises(torch.OutOfMemoryError):
            list(batches)
        return
    found = list(batches)
    assert [len(images) for images in found] == sizes
    assert _positions(torch.cat(found))[:, 0, 0].tolist() == [[image, 1, 1] for image in range(11)]


def test_predictions_are_of_the_changes_and_the_policy_of_each_image():
    changes = _changes([0, 1, 2], [2, 1, 0], [False] * 3)
    batches = predict_batches(lambda images: images, _images(3), 2, VIEW, changes, lambda image: image.transpose(1, 2))
    assert _positions(torch.cat([*batches]))[:, 0, 1].tolist() == [[0, 1, 2], [1, 2, 1], [2, 3, 0]]  # its row 1


def test_probabilities_do_not_depend_on_how_many_images_fit_into_memory():
    network = tiny_cnn().eval()
    limits = iter([3])

    def fail_once(module, inputs):
        if next(limits, None):
            raise torch.OutOfMemoryError("out of memory, says the test")

    images, view = noise_split(20).images, View(18, 16, MEAN, STD, CPU)
    whole = predict_proba(network, images, view)
    network.register_forward_pre_hook(fail_once)
    np.testing.assert_allclose(predict_proba(network, images, view), whole, rtol=0, atol=1e-6)


def test_a_device_that_is_not_here_is_a_users_mistake(monkeypatch):
    monkeypatch.setenv("QUINTET_DEVICE", "cpu")
    assert choose_device() == CPU
    for name in ("gpu", "cuda:99"):
        monkeypatch.setenv("QUINTET_DEVICE", name)
        with pytest.raises(UserError, match=f"QUINTET_DEVICE={name}"):
            choose_device()


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), ("2", 2)])
def test_threads_are_no_more_than_the_cores_of_the_container_unless_asked_for(asked, expected, monkeypatch):
    monkeypatch.setattr("stages.networks.devices.count_cores", lambda: 1)
    monkeypatch.setenv("QUINTET_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", asked) if asked else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    choose_device()
    found = torch.get_num_threads()
    torch.set_num_threads(kept)
    assert found == expected


def test_one_gpu_is_refused_to_several_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("QUINTET_DEVICE", "cuda:0")
    with pytest.raises(UserError, match="QUINTET_DEVICE=cuda:0"):
        choose_device()


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc's malloc")
def test_freed_memory_is_used_again():
    choose_device()

    def count_new_pages() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**23)  # 32 MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # the first batches may not find enough free memory
    assert min(count_new_pages() for _ in range(20)) < 2**25 // resource.getpagesize() / 10
