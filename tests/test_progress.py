"""The running sums of an epoch: what they add up to by hand, and which batch is named when a loss is no number."""

import math

import pytest
import torch
from stages.shared import progress as progress_module

from stages.training.processes import ALONE
from stages.training.progress import EpochProgress, NotFiniteError, print_epoch

CPU = torch.device("cpu")


def _progress(n_images: int, batch_size: int) -> EpochProgress:
    return EpochProgress("cnn epoch 1/1", n_images, batch_size, CPU, ALONE)


def _add(progress: EpochProgress, loss: float, answers: list[int], labels: list[int]) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 3).float()
    progress.add(torch.tensor(loss), logits, torch.tensor(labels))


def _run(losses: list[float]) -> EpochProgress:
    """Run an epoch of batches of two images with these losses."""
    progress = _progress(2 * len(losses), 2)
    for loss in progress.follow(losses):
        _add(progress, loss, [0, 1], [0, 1])
    return progress


def test_loss_and_accuracy_are_means_over_the_images():
    progress = _progress(5, 3)
    _add(progress, 6.0, [0, 1, 2], [0, 1, 1])  # two of three are right
    _add(progress, 1.5, [2, 2], [0, 2])  # one of two
    assert progress.scores() == (7.5 / 5, 3 / 5)


def test_scores_are_the_same_however_often_they_are_asked_for():
    progress = _progress(2, 2)
    _add(progress, 3.0, [0, 1], [0, 0])
    assert progress.scores() == progress.scores() == (1.5, 0.5)


def test_small_losses_are_not_lost_beside_a_large_sum():
    # in float32, 2**24 + 1 is 2**24
    progress = _progress(4, 1)
    for loss in (2.0**24, 1.0, 1.0, 1.0):
        _add(progress, loss, [0], [0])
    assert progress.scores()[0] == (2**24 + 3) / 4


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_the_batch_whose_loss_is_not_finite_is_the_one_that_is_named(batch, wrong):
    losses = [1.0] * 5
    losses[batch - 1] = wrong
    with pytest.raises(NotFiniteError) as error:
        _run(losses)
    assert error.value.batch == batch


def test_the_first_of_several_losses_that_are_not_finite_is_named():
    with pytest.raises(NotFiniteError) as error:
        _run([1.0, 1.0, math.nan, 1.0, math.inf, -math.inf])
    assert error.value.batch == 3


def test_an_epoch_stops_soon_after_a_loss_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(progress_module, "LOOK_S", 0)
    progress, shown = _progress(10, 2), []

    def run() -> None:
        for loss in progress.follow([1.0, math.nan, 1.0, 1.0, 1.0]):
            shown.append(loss)
            _add(progress, loss, [0, 1], [0, 1])

    with pytest.raises(NotFiniteError):
        run()
    assert len(shown) == 2


def test_finite_losses_pass_in_their_order():
    progress = _progress(6, 2)
    passed = []
    for loss in progress.follow([3.0, 1.0, 2.0]):
        passed.append(loss)
        _add(progress, loss, [0, 0], [0, 1])
    assert passed == [3.0, 1.0, 2.0]
    assert progress.scores() == (1.0, 0.5)


@pytest.mark.parametrize(("n_images", "sizes"), [(6, [3, 3]), (8, [3, 3, 2]), (2, [2])])
def test_n_seen_counts_the_images_of_the_batches_so_far(n_images, sizes):
    progress = _progress(n_images, 3)
    seen = [progress.n_seen]
    for size in sizes:
        _add(progress, 1.0, [0] * size, [0] * size)
        seen.append(progress.n_seen)
    assert seen == [sum(sizes[:n]) for n in range(len(sizes) + 1)]


def test_n_seen_counts_an_image_that_has_joined_the_last_batch():
    progress = _progress(7, 3)
    for size in progress.follow([[0] * 3] * 2):  # as `iterate_batches` divides 7 by 3
        _add(progress, 1.0, size, size)
    assert progress.n_seen == 7


def test_no_bar_is_drawn_where_there_is_no_terminal(capfd):
    _run([1.0, 2.0])
    assert capfd.readouterr() == ("", "")


def test_a_finished_epoch_is_one_line_with_its_figures(capsys):
    row = {"train_loss": 1.25, "train_accuracy": 0.5, "val_loss": 12.5, "val_accuracy": 0.75, "lr": 0.00025}
    print_epoch("cnn epoch 3/10", row, images_per_s=123.4, remaining_s=56.7)
    assert capsys.readouterr().out == (
        "cnn epoch 3/10  train loss  1.2500 accuracy 0.5000  val loss 12.5000 accuracy 0.7500"
        "  lr 2.50e-04     123 images/s     57 s left\n"
    )
