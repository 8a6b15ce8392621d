"""Checkpoints: a stopped training ends as if it had not been stopped, and never uses the file of another training."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn

from stages.networks.model_files import save_weights
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.types import ModelSettings
from stages.training.checkpoint_folder import find_folder
from stages.training.checkpoints import Checkpoint, open_checkpoint
from stages.training.job import Job
from stages.training.trainer import fit
from tests.repository import ROOT
from tests.trainings import (
    change_settings,
    copy_state,
    make_job,
    noise_split,
    plain_split,
    same_bits,
    tiny_cnn,
)

OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)
SETTINGS = {
    "patience": change_settings(epochs=4, rounds=2, patience=1, schedule="cosine", lr=0.02),
    "best of an earlier round": change_settings(epochs=2, rounds=2, lr=0.05),
    "least loss": change_settings(epochs=2, rounds=2, lr=0.05, keep="loss", min_steps=9),
    "kept features": change_settings(epochs=2, rounds=2, lr=0.05, keep="last", frozen_epochs=1, frozen_views=2),
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
    """Stop a training from outside."""


def train(folder: Path, job: Job, stop_in: int = 0, model_file: Path | None = None):
    """Train as the stage does; stop after `stop_in` epochs, before the checkpoint is written.

    Returns:
        The best weights and the history; None if the training was stopped.
    """
    network, history = tiny_cnn(), []
    model_file = model_file or folder / "cnn.safetensors"

    def keep(rows: list[dict]) -> None:
        if len(rows) == stop_in:
            raise StopError
        history[:] = [dict(row) for row in rows]

    checkpoint = open_checkpoint(folder, network, job)
    try:
        best = copy_state(fit(network, job, keep, checkpoint))
    except StopError:
        checkpoint.wait()
        checkpoint.release()
        return None
    save_weights(model_file, best, {})
    checkpoint.finish(model_file)
    return best, history


def hard_job(settings: ModelSettings, **others) -> Job:
    return make_job(settings, noise_split(23), plain_split([0, 1, 2] * 4), **others)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_training_stopped_after_each_epoch_ends_as_if_it_had_not_been(settings, tmp_path, capsys):
    undisturbed = train(tmp_path / "undisturbed", hard_job(settings))
    n_epochs = len(undisturbed[1])
    for epoch in range(2, n_epochs + 1):
        assert train(tmp_path, hard_job(settings), stop_in=epoch) is None
    capsys.readouterr()
    best, history = train(tmp_path, hard_job(settings))
    assert history == undisturbed[1]
    assert same_bits(best, undisturbed[0])
    said = capsys.readouterr().out.splitlines()
    assert f"resumes after epoch {n_epochs - 1}," in said[0]
    assert len(said) == 2  # only the last epoch
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cnn.safetensors"]


def test_these_settings_end_a_round_early_and_keep_the_best_of_an_earlier_one(tmp_path):
    _, history = train(tmp_path, hard_job(SETTINGS["patience"]))
    assert [row["round"] for row in history].count(1) < 4
    _, history = train(tmp_path, hard_job(SETTINGS["best of an earlier round"]))
    assert [row["round"] for row in history if row["best"]] == [1]


def test_a_training_stopped_between_its_last_epoch_and_the_model_file_trains_no_more(tmp_path):
    job = hard_job(change_settings())
    finished = []
    for _ in range(2):
        network = tiny_cnn()
        checkpoint = open_checkpoint(tmp_path, network, job)
        if finished:
            network.register_forward_pre_hook(lambda *_: pytest.fail("an epoch was run again"))
        finished.append(copy_state(fit(network, job, lambda rows: None, checkpoint)))
        checkpoint.release()
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


JOB = hard_job(change_settings(epochs=2))
OTHERS = {
    "a parameter": {"job": hard_job(change_settings(epochs=2, lr=0.010000000000000002))},
    "an augmentation": {"job": hard_job(JOB.settings, augment=JOB.augment.model_copy(update={"flip": False}))},
    "the seed": {"job": hard_job(JOB.settings, seed=2)},
    "a pixel": {"job": make_job(JOB.settings, JOB.train, PackedSplit(change_one(JOB.val.images), JOB.val.labels))},
    "a label": {"job": make_job(JOB.settings, PackedSplit(JOB.train.images, change_one(JOB.train.labels)), JOB.val)},
    "the code": {"job": hard_job(JOB.settings, code="other code")},
    "an initial weight": {"network": other_weight()},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_a_checkpoint_belongs_to_exactly_one_training(other, tmp_path):
    def path_of(job: Job = JOB, network: nn.Module | None = None) -> Path:
        checkpoint = open_checkpoint(tmp_path, network or tiny_cnn(), job)
        checkpoint.release()
        return checkpoint.path

    assert path_of(**other) != path_of() == path_of(job=hard_job(change_settings(epochs=2)))


def test_a_parameter_that_is_changed_starts_afresh_and_changed_back_goes_on(tmp_path, capsys):
    one, other = hard_job(change_settings(epochs=3)), hard_job(change_settings(epochs=3, lr=0.02))
    undisturbed, undisturbed_other = (train(tmp_path / "undisturbed", job) for job in (one, other))
    train(tmp_path, one, stop_in=3)
    capsys.readouterr()
    train(tmp_path, other, stop_in=2)
    assert "resumes" not in capsys.readouterr().out
    best, history = train(tmp_path, one)
    assert "resumes after epoch" in capsys.readouterr().out
    assert (same_bits(best, undisturbed[0]), history) == (True, undisturbed[1])
    best, history = train(tmp_path, other)
    assert "resumes after epoch" in capsys.readouterr().out
    assert (same_bits(best, undisturbed_other[0]), history) == (True, undisturbed_other[1])


def test_a_finished_training_is_not_run_again_and_its_weights_go_when_dvc_has_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@cnn")
    model, cache = Path("cnn.safetensors"), Path(".dvc/cache")
    cache.parent.mkdir()
    folder = find_folder(model)
    undisturbed = train(folder, JOB, model_file=model)
    md5 = hashlib.md5(model.read_bytes()).hexdigest()
    model.unlink()  # as if DVC was killed before the model was in its cache
    capsys.readouterr()
    best, history = train(folder, JOB, model_file=model)
    assert capsys.readouterr().out.count("\n") == 1  # only the line about resuming: no epoch is run
    assert (same_bits(best, undisturbed[0]), history) == (True, undisturbed[1])
    Checkpoint(folder, "another training").release()
    assert len(list(folder.glob("*.checkpoint"))) == 1
    (cache / "files/md5" / md5[:2]).mkdir(parents=True)
    shutil.copy(model, cache / "files/md5" / md5[:2] / md5[2:])
    Checkpoint(folder, "another training").release()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("level", ["global", "repository", "local"])
def test_checkpoints_lie_in_dvcs_cache_wherever_it_is_configured(level, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_folder(Path("models/cnn.safetensors")) == Path("models")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    Path(".dvc").mkdir()
    Path("user").mkdir()
    assert find_folder(Path("models/cnn.safetensors")) == Path(".dvc/cache/checkpoints")
    config = {"global": "user/config", "repository": ".dvc/config", "local": ".dvc/config.local"}[level]
    Path(config).write_text("[cache]\n    dir = /shared/100%\n", encoding="utf-8")
    assert find_folder(Path("models/cnn.safetensors")) == Path("/shared/100%/checkpoints")


def test_what_nobody_has_touched_for_a_week_goes_unless_a_process_works_on_it(tmp_path):
    day = 24 * 60 * 60
    running = Checkpoint(tmp_path, "d")  # running for more than a week
    old = ("a.checkpoint", "a.lock", "c.checkpoint", "d.lock", "e.lock", "model.txt")
    ages = {"b.checkpoint": 6.99, **dict.fromkeys(old, 7.01)}
    for name, age in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age * day,) * 2)
    Checkpoint(tmp_path, "c").release()  # its own checkpoint is never too old
    left = ["b.checkpoint", "c.checkpoint", "d.lock", "model.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    running.release()


WAITING = """
import sys
from pathlib import Path
from stages.training.checkpoint_folder import find_folder
from stages.training.checkpoints import Checkpoint
checkpoint = Checkpoint(Path(sys.argv[1]), "a")
print(checkpoint.read()["history"], flush=True)
sys.stdin.read()
"""


def test_a_second_process_waits_for_the_first_and_goes_on_from_what_it_left(tmp_path):
    """The lock belongs to the process: SIGKILL releases it, too."""
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    checkpoint = Checkpoint(tmp_path, "a")
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as second:
        assert "a.lock" in second.stdout.readline()
        checkpoint.write(STATE)
        checkpoint.wait()
        checkpoint.release()
        assert second.stdout.readline() == f"{STATE['history']}\n"
        with pytest.raises(Timeout):
            FileLock(tmp_path / "a.lock").acquire(blocking=False)
        second.kill()
    assert is_whole(Checkpoint(tmp_path, "a"))


STATE = {"epoch": 2, "history": [{"loss": 0.5}], "best": {"weight": torch.arange(500.0)}}


def is_whole(checkpoint: Checkpoint) -> bool:
    state = checkpoint.read()
    return state["history"] == STATE["history"] and same_bits(state["best"], STATE["best"])


def test_what_changes_after_a_state_was_written_does_not_reach_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path, "a")
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
        lambda path: torch.save({"history": Path()}, path),  # loading it would run code of the file
    ],
    ids=["empty", "cut", "other bytes", "an object"],
)
def test_a_damaged_checkpoint_is_the_users_to_remove(damage, tmp_path):
    checkpoint = Checkpoint(tmp_path, "a")
    checkpoint.write(STATE)
    checkpoint.wait()
    damage(checkpoint.path)
    with pytest.raises(UserError, match=r"a\.checkpoint"):
        checkpoint.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without a disk that is always full")
def test_a_full_disk_leaves_the_older_state_and_is_told_by_the_next_write(tmp_path):
    checkpoint = Checkpoint(tmp_path, "a")
    checkpoint.write(STATE)
    checkpoint.wait()
    (tmp_path / ".a.unfinished.checkpoint").symlink_to("/dev/full")
    checkpoint.write({**STATE, "history": []})
    with pytest.raises(OSError, match="No space left") as error:
        checkpoint.write(STATE)
    assert error.value.errno == errno.ENOSPC
    assert is_whole(checkpoint)
    checkpoint.release()
    assert [path.name for path in tmp_path.iterdir()] == ["a.checkpoint"]
