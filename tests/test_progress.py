"""The running sums of an epoch: what they add up to by hand, and which batch is named when a loss is no number."""

import math

import pytest
import torch

from stages.training import progress as progress_module
from stages.training.processes import ALONE
from stages.training.progress import EpochProgress, NotFiniteError
from tests.trainings import CPU


def make_progress(n_images: int, batch_size: int) -> EpochProgress:
    return EpochProgress("cnn epoch 1/1", n_images, batch_size, CPU, ALONE)


def add(progress: EpochProgress, loss: float, answers: list[int], labels: list[int]) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 3).float()
    progress.add(torch.tensor(loss), logits, torch.tensor(labels))


def run(losses: list[float]) -> None:
    """Run an epoch of batches of two images with these losses."""
    progress = make_progress(2 * len(losses), 2)
    for loss in progress.follow(losses):
        add(progress, loss, [0, 1], [0, 1])


def test_loss_and_accuracy_are_means_over_the_images_and_small_losses_are_not_lost():
    progress = make_progress(5, 3)
    add(progress, 2.0**24, [0, 1, 2], [0, 1, 1])  # in float32, 2**24 + 1 is 2**24
    add(progress, 1.0, [2, 2], [0, 2])
    assert progress.scores() == progress.scores() == ((2**24 + 1) / 5, 3 / 5)


@pytest.mark.parametrize(("losses", "batch"), [([math.nan], 1), ([1.0, 1.0, math.inf, 1.0, -math.inf, math.nan], 3)])
def test_the_first_batch_whose_loss_is_not_finite_is_the_one_that_is_named(losses, batch):
    with pytest.raises(NotFiniteError) as error:
        run(losses)
    assert error.value.batch == batch


def test_an_epoch_stops_soon_after_a_loss_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(progress_module, "LOOK_S", 0)
    progress, losses = make_progress(8, 2), iter([1.0, math.nan, 1.0, 1.0])
    batches = progress.follow(losses)
    add(progress, next(batches), [0, 1], [0, 1])
    add(progress, next(batches), [0, 1], [0, 1])
    with pytest.raises(NotFiniteError):
        next(batches)
    assert list(losses) == [1.0, 1.0]


@pytest.mark.parametrize(("n_images", "sizes", "expected"), [(8, [3, 3, 2], [3, 6, 8]), (7, [3, 4], [3, 7])])
def test_n_seen_counts_the_images_of_the_batches_so_far(n_images, sizes, expected):
    progress, seen = make_progress(n_images, 3), []
    for size in progress.follow(sizes):  # as `iterate_batches` divides them
        add(progress, 1.0, [0] * size, [0] * size)
        seen.append(progress.n_seen)
    assert [*seen[:-1], progress.n_seen] == expected


def test_no_bar_is_drawn_where_there_is_no_terminal(capfd):
    run([1.0, 2.0])
    assert capfd.readouterr() == ("", "")
