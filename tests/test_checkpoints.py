"""Checkpoints: a training that was stopped ends as if it had not been, and a file of another one is never used."""

import errno
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.types import ModelSettings
from stages.training.checkpoints import Checkpoint
from stages.training.loop import Task, fit, open_checkpoint
from tests.trainings import (
    STILL,
    change_settings,
    copy_state,
    make_task,
    noise_split,
    plain_split,
    same_bits,
    tiny_cnn,
)

OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)
SETTINGS = {
    "patience": change_settings(epochs=4, rounds=2, patience=1, schedule="cosine"),
    "best of an earlier round": change_settings(epochs=2, rounds=2, lr=STILL),  # no epoch is better than the first
    "average": change_settings(epochs=2, rounds=2, ema_decay=0.7),
    "everything": change_settings(
        epochs=2,
        rounds=2,
        frozen_epochs=1,
        backbone_lr=0.005,
        weight_decay=0.1,
        ema_decay=0.7,
        mixup=0.5,
        cutmix=1.0,
        gradient_clip=0.5,
        schedule="cosine",
        warmup_epochs=1,
        label_smoothing=0.1,
    ),
    **{name: change_settings(epochs=2, optimizer=name, momentum=0.5, weight_decay=0.01) for name in OPTIMIZERS},
}


class StopError(Exception):
    """Ends a training from outside."""


def train(folder: Path, task: Task, stop_in: int = 0, network: nn.Module | None = None, code: str = "the code"):
    """Train as the stage does; stop where `stop_in` epochs have ended, before that is written down.

    Returns:
        The best weights and the history; None where it was stopped.
    """
    network, history = network or tiny_cnn(), []

    def keep(rows: list[dict]) -> None:
        if len(rows) == stop_in:
            raise StopError
        history[:] = [dict(row) for row in rows]

    checkpoint = open_checkpoint(folder / "cnn.safetensors", network, task, code)
    try:
        best = copy_state(fit(network, task, keep, checkpoint))
    except StopError:
        checkpoint.wait()
        return None
    checkpoint.remove()
    return best, history


def hard_task(settings: ModelSettings, **others) -> Task:
    return make_task(settings, noise_split(23), plain_split([0, 1, 2] * 4), **others)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_training_stopped_after_each_epoch_ends_as_if_it_had_not_been(settings, tmp_path, capsys):
    undisturbed = train(tmp_path / "undisturbed", hard_task(settings))
    n_epochs = len(undisturbed[1])
    for epoch in range(2, n_epochs + 1):
        assert train(tmp_path, hard_task(settings), stop_in=epoch) is None
    capsys.readouterr()
    best, history = train(tmp_path, hard_task(settings))
    assert history == undisturbed[1]
    assert same_bits(best, undisturbed[0])
    said = capsys.readouterr().out.splitlines()
    assert f"after epoch {n_epochs - 1}" in said[0]
    assert len(said) == 2  # the last epoch alone
    assert list(tmp_path.glob("*.checkpoint")) == []


def test_these_settings_end_a_round_early_and_keep_the_best_of_an_earlier_one(tmp_path):
    _, history = train(tmp_path, hard_task(SETTINGS["patience"]))
    assert [row["round"] for row in history].count(1) < 4
    _, history = train(tmp_path, hard_task(SETTINGS["best of an earlier round"]))
    assert [row["round"] for row in history if row["best"]] == [1]


def test_a_training_stopped_between_its_last_epoch_and_the_model_file_trains_no_more(tmp_path):
    task = hard_task(change_settings())
    finished = []
    for _ in range(2):
        network = tiny_cnn()
        checkpoint = open_checkpoint(tmp_path / "cnn.safetensors", network, task, "the code")
        if finished:
            network.register_forward_pre_hook(lambda *_: pytest.fail("an epoch was run again"))
        finished.append(copy_state(fit(network, task, lambda rows: None, checkpoint)))
        checkpoint.wait()
    assert same_bits(*finished)


def change_one(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.flat[-1] ^= 1
    return changed


def other_weight() -> nn.Module:
    network = tiny_cnn()
    with torch.no_grad():
        network.head[-1].bias[0] += 0.001
    return network


TASK = hard_task(change_settings(epochs=2))
OTHERS = {
    "a parameter": {"task": hard_task(change_settings(epochs=2, lr=0.010000000000000002))},
    "an augmentation": {"task": hard_task(TASK.settings, augment=TASK.augment.model_copy(update={"flip": False}))},
    "the seed": {"task": hard_task(TASK.settings, seed=2)},
    "a pixel": {
        "task": make_task(TASK.settings, TASK.train, PackedSplit(change_one(TASK.val.images), TASK.val.labels))
    },
    "a label": {
        "task": make_task(TASK.settings, PackedSplit(TASK.train.images, change_one(TASK.train.labels)), TASK.val)
    },
    "the code": {"code": "other code"},
    "an initial weight": {"network": other_weight()},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_a_checkpoint_belongs_to_exactly_one_training(other, tmp_path):
    def path_of(task: Task = TASK, network: nn.Module | None = None, code: str = "the code") -> Path:
        return open_checkpoint(tmp_path / "cnn.safetensors", network or tiny_cnn(), task, code).path

    assert path_of(**other) != path_of() == path_of(task=hard_task(change_settings(epochs=2)))


def test_a_parameter_that_is_changed_starts_afresh_and_changed_back_goes_on(tmp_path, capsys):
    one, other = hard_task(change_settings(epochs=3)), hard_task(change_settings(epochs=3, lr=0.02))
    undisturbed, undisturbed_other = (train(tmp_path / "undisturbed", task) for task in (one, other))
    train(tmp_path, one, stop_in=3)
    capsys.readouterr()
    train(tmp_path, other, stop_in=2)
    assert "goes on" not in capsys.readouterr().out
    best, history = train(tmp_path, one)
    assert "goes on from" in capsys.readouterr().out
    assert (same_bits(best, undisturbed[0]), history) == (True, undisturbed[1])
    best, history = train(tmp_path, other)
    assert "goes on from" in capsys.readouterr().out
    assert (same_bits(best, undisturbed_other[0]), history) == (True, undisturbed_other[1])


def test_of_other_trainings_of_the_model_the_newest_checkpoint_stays(tmp_path):
    for age, name in enumerate(["cnn.c", "cnn.b", "cnn.a", "vgg16.a"]):
        path = tmp_path / f"{name}.checkpoint"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    Checkpoint(tmp_path / "cnn.safetensors", "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cnn.b.checkpoint",
        "cnn.c.checkpoint",
        "vgg16.a.checkpoint",
    ]


STATE = {"position": {"epoch": 2, "history": [{"loss": 0.5}]}, "best": {"weight": torch.arange(500.0)}}


def is_whole(checkpoint: Checkpoint) -> bool:
    state = checkpoint.read()
    return state["position"] == STATE["position"] and same_bits(state["best"], STATE["best"])


def test_what_changes_after_a_state_was_written_does_not_reach_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "cnn.safetensors", "a")
    assert checkpoint.read() is None
    state = {**STATE, "best": copy_state(STATE["best"])}
    checkpoint.write(state)
    state["best"]["weight"].zero_()
    checkpoint.wait()
    assert is_whole(checkpoint)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(bytes(range(256)) * 8),
    ],
    ids=["empty", "cut", "other bytes"],
)
def test_a_damaged_checkpoint_is_the_users_to_remove(damage, tmp_path):
    checkpoint = Checkpoint(tmp_path / "cnn.safetensors", "a")
    checkpoint.write(STATE)
    checkpoint.wait()
    damage(checkpoint.path)
    with pytest.raises(UserError, match=r"cnn\.a\.checkpoint"):
        checkpoint.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without a disk that is always full")
def test_a_full_disk_leaves_the_older_state_and_is_told_by_the_next_write(tmp_path):
    checkpoint = Checkpoint(tmp_path / "cnn.safetensors", "a")
    checkpoint.write(STATE)
    checkpoint.wait()
    (tmp_path / ".cnn.a.unfinished.checkpoint").symlink_to("/dev/full")
    checkpoint.write({**STATE, "position": {}})
    with pytest.raises(OSError, match="No space left") as error:
        checkpoint.write(STATE)
    assert error.value.errno == errno.ENOSPC
    assert is_whole(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.a.checkpoint"]
