"""The running sums of an epoch, calculated by hand, and the batch that is named if a loss is not finite."""

import io
import math
import re
import sys
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from tqdm import tqdm

from stages.training import progress
from stages.training.processes import ALONE, Processes
from stages.training.progress import NotFiniteError, add_batch, follow, new_sums
from tests.trainings import CPU


def add(sums: torch.Tensor, loss: float, answers: list[int], labels: list[int]) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 3).float()
    add_batch(sums, torch.tensor(loss), logits, torch.tensor(labels))


def run(losses: list[float], processes: Processes = ALONE) -> Iterator[int]:
    """Run an epoch of two-image batches with these losses; yield the number of batches so far."""
    sums = new_sums(CPU)
    for number, loss in enumerate(follow(losses, len(losses), 2 * len(losses), "cnn", sums, processes), 1):
        add(sums, loss, [0, 1], [0, 1])
        yield number


def test_small_losses_are_not_lost_and_right_answers_are_counted():
    sums = new_sums(CPU)
    add(sums, 2.0**24, [0, 1, 2], [0, 1, 1])  # in float32, 2**24 + 1 is 2**24
    add(sums, 1.0, [2, 2], [0, 2])
    assert sums.tolist() == [2**24 + 1, 3, 2]
    assert new_sums(torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize(("losses", "batch"), [([math.nan], 1), ([1.0, 1.0, math.inf, 1.0, -math.inf, math.nan], 3)])
def test_the_first_batch_whose_loss_is_not_finite_is_the_one_that_is_named(losses, batch):
    with pytest.raises(NotFiniteError) as error:
        list(run(losses))
    assert error.value.batch == batch


def test_an_epoch_stops_soon_after_a_loss_that_is_not_finite(monkeypatch):
    monkeypatch.setattr(progress, "LOOK_S", 0)
    epoch = run([1.0, math.nan, 1.0, 1.0])
    assert [next(epoch), next(epoch)] == [1, 2]
    with pytest.raises(NotFiniteError):
        next(epoch)


def test_no_bar_is_drawn_where_there_is_no_terminal(capfd):
    assert list(run([1.0, 2.0])) == [1, 2]
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_first_process_shows_how_many_images_it_has_seen_and_their_mean_loss(monkeypatch):
    monkeypatch.setattr(progress, "LOOK_S", 0)
    monkeypatch.setattr(progress, "tqdm", partial(tqdm, mininterval=0, ncols=200))
    shown = []
    for processes in (Processes(1, 2), ALONE):
        monkeypatch.setattr(sys, "stderr", Terminal())
        list(run([1.0, 2.0, 3.0], processes))
        shown.append(sys.stderr.getvalue())
    assert shown[0] == ""
    # the loss of a batch is shown with the images of the next one
    found = re.findall(r"cnn: [^\r]* (\d/6) [^\r]*img/s, accuracy=1.0000, loss=(0.\d+)\]", shown[1])
    assert found == [("4/6", "0.5000"), ("6/6", "0.7500")]
    assert shown[1].endswith(" \r")  # the line is cleared
