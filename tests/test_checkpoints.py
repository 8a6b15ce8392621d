"""Checkpoints: a training that was stopped ends as if it had not been, and a file that is no good is never used."""

import errno
import importlib.util
import os
import pickle
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
from stages.shared import checkpoints
from torch import nn

from stages.models import cnn, resnet50, resnet50_pretrained, vgg16, vgg19_pretrained
from stages.pixels.packed_splits import Pack
from stages.runtime.errors import UserError
from stages.settings.types import ModelSettings, Phase
from stages.training.checkpoints import Checkpoint, only_one
from stages.training.loop import Task, fit, resumable
from stages.training.processes import ALONE
from tests.imports import ROOT
from tests.trainings import (
    change_settings,
    copy_state,
    fine_tune_settings,
    make_task,
    noise_pack,
    plain_pack,
    same_bits,
    tiny_cnn,
)

FINGERPRINT = {"code": "a", "data": "b"}
STATE = {"position": {"epoch": 2, "history": [{"loss": 0.5}]}, "best": {"weight": torch.arange(500.0)}}
OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)
SPOILT = {"phases": [Phase(epochs=2, lr=0.01)], "lr": 30.0}  # two good epochs, then a rate that ruins the weights
SETTINGS = {
    "plain": change_settings(epochs=3),
    "rounds": change_settings(epochs=2, rounds=2, schedule="cosine"),
    "patience": change_settings(epochs=4, rounds=2, patience=1),
    "best before the end": change_settings(epochs=4, **SPOILT),
    "best of an earlier round": change_settings(epochs=3, rounds=2, **SPOILT),
    "average": change_settings(epochs=3, rounds=2, ema_decay=0.7),
    "frozen": fine_tune_settings(epochs=3, frozen_epochs=2),
    "frozen in rounds": fine_tune_settings(epochs=2, rounds=2),
    "everything": fine_tune_settings(
        epochs=3,
        precision="bf16",
        ema_decay=0.7,
        mixup=0.5,
        cutmix=1.0,
        gradient_clip=0.5,
        schedule="cosine",
        warmup_epochs=1,
        label_smoothing=0.1,
        class_weights="balanced",
    ),
    **{name: change_settings(epochs=2, optimizer=name, weight_decay=0.01) for name in OPTIMIZERS},
}


class _StopError(Exception):
    """Ends a training from outside."""


def _end(network: nn.Module, task: Task, path: Path | None = None, stop_in: int = 0) -> tuple[dict, list[dict]]:
    """Train, with a checkpoint or without; stop when `stop_in` epochs have ended, before that is written down."""
    history: list[dict] = []

    def keep(rows: list[dict]) -> None:
        if len(rows) == stop_in:
            raise _StopError
        history[:] = [dict(row) for row in rows]

    checkpoint = Checkpoint(path, FINGERPRINT) if path else None
    try:
        best = fit(network, task, keep, checkpoint)
    finally:
        if checkpoint:
            checkpoint.wait()
    assert same_bits(best, network.state_dict())
    return copy_state(best), history


def _task(settings: ModelSettings) -> Task:
    return make_task(settings, train=noise_pack(23), val=plain_pack([0, 1, 2] * 4))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_training_stopped_after_any_epoch_ends_as_if_it_had_not_been(settings, tmp_path):
    undisturbed = _end(tiny_cnn(), _task(settings))
    for epoch in range(1, len(undisturbed[1]) + 1):
        path = tmp_path / f"{epoch}.checkpoint"
        with pytest.raises(_StopError):
            _end(tiny_cnn(), _task(settings), path, stop_in=epoch)
        best, history = _end(tiny_cnn(), _task(settings), path)
        assert history == undisturbed[1]
        assert same_bits(best, undisturbed[0])


@pytest.mark.parametrize("name", ["rounds", "average", "frozen in rounds", "best before the end"])
def test_a_training_stopped_again_and_again_ends_as_if_it_had_not_been(name, tmp_path):
    undisturbed = _end(tiny_cnn(), _task(SETTINGS[name]))
    assert len(undisturbed[1]) >= 4
    for epoch in range(2, len(undisturbed[1]) + 1):
        with pytest.raises(_StopError):
            _end(tiny_cnn(), _task(SETTINGS[name]), tmp_path / "checkpoint", stop_in=epoch)
    best, history = _end(tiny_cnn(), _task(SETTINGS[name]), tmp_path / "checkpoint")
    assert history == undisturbed[1]
    assert same_bits(best, undisturbed[0])


def test_the_settings_of_these_tests_have_their_best_epoch_before_the_end():
    for name, n_epochs in (("best before the end", 4), ("best of an earlier round", 6)):
        _, history = _end(tiny_cnn(), _task(SETTINGS[name]))
        assert len(history) == n_epochs
        assert history[-1]["best"] == 0


def test_a_training_stopped_between_its_last_epoch_and_the_model_file_trains_no_more(tmp_path):
    finished = _end(tiny_cnn(), _task(SETTINGS["rounds"]), tmp_path / "checkpoint")
    network = tiny_cnn()
    network.register_forward_pre_hook(lambda *_: pytest.fail("an epoch was run again"))
    best, history = _end(network, _task(SETTINGS["rounds"]), tmp_path / "checkpoint")
    assert history == finished[1]
    assert same_bits(best, finished[0])


def test_only_the_epochs_that_are_missing_are_trained(tmp_path, capsys):
    with pytest.raises(_StopError):
        _end(tiny_cnn(), _task(SETTINGS["plain"]), tmp_path / "checkpoint", stop_in=3)
    capsys.readouterr()
    _end(tiny_cnn(), _task(SETTINGS["plain"]), tmp_path / "checkpoint")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"cnn: goes on from {tmp_path / 'checkpoint'}, after epoch 2"
    assert second.startswith("cnn epoch 3/3 ")


VGG = {"batch_norm": True, "dense_units": 4, "dropout": 0.5}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (cnn, {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5}),
        (vgg16, VGG),
        (resnet50, {}),
        (vgg19_pretrained, VGG),
        (resnet50_pretrained, {}),
    ],
    ids=lambda value: value.__name__.split(".")[-1] if hasattr(value, "__name__") else "",
)
def test_each_of_the_five_models_goes_on_to_the_same_bits(module, arguments, tmp_path):
    def build() -> nn.Module:
        torch.manual_seed(1)
        return module.build_model(3, 32, **arguments)

    # SGD: of vgg19, a checkpoint of Adam's is 300 MB
    changes = {"batch_size": 2, "precision": "bf16", "optimizer": "sgd", "schedule": "cosine"}
    settings = (fine_tune_settings if "pretrained" in module.__name__ else change_settings)(**changes)
    task = make_task(settings, noise_pack(2, 36), noise_pack(2, 36), image_size_px=32)
    undisturbed = _end(build(), task)
    with pytest.raises(_StopError):
        _end(build(), task, tmp_path / "checkpoint", stop_in=2)
    best, history = _end(build(), task, tmp_path / "checkpoint")
    (tmp_path / "checkpoint").unlink()  # pytest keeps folders for days
    assert history == undisturbed[1]
    assert same_bits(best, undisturbed[0])


def _write(path: Path, state: dict = STATE, fingerprint: dict = FINGERPRINT) -> None:
    checkpoint = Checkpoint(path, fingerprint)
    checkpoint.write(state)
    checkpoint.wait()


def _is_whole(path: Path) -> bool:
    state, _ = Checkpoint(path, FINGERPRINT).read()
    return bool(state) and state["position"] == STATE["position"] and same_bits(state["best"], STATE["best"])


def test_a_state_is_read_as_it_was_written_and_the_newest_one_counts(tmp_path):
    path = tmp_path / "cnn.checkpoint"
    assert Checkpoint(path, FINGERPRINT).read() == (None, "")
    checkpoint = Checkpoint(path, FINGERPRINT)
    for epoch in range(3):
        checkpoint.write({**STATE, "epoch": epoch})
    checkpoint.wait()
    assert Checkpoint(path, FINGERPRINT).read()[0]["epoch"] == 2
    assert _is_whole(path)
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_changes_after_a_state_was_written_does_not_reach_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "cnn.checkpoint", FINGERPRINT)
    state = {**STATE, "best": copy_state(STATE["best"])}
    checkpoint.write(state)
    state["best"]["weight"].zero_()
    checkpoint.wait()
    assert _is_whole(tmp_path / "cnn.checkpoint")


def _cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(share * path.stat().st_size))


def _flip_in_a_tensor(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        tensors = [entry for entry in file.infolist() if "/data/" in entry.filename]
    largest = max(tensors, key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    # an entry's header has 30 bytes, the last four of which are the lengths of its name and of its padding
    name_length, padding = struct.unpack_from("<HH", content, largest.header_offset + 26)
    content[largest.header_offset + 30 + name_length + padding + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def _another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", "nothing")


def _saved(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


DAMAGES = {
    "empty": _cut(0),
    "cut at 1 %": _cut(0.01),
    "cut at 50 %": _cut(0.5),
    "cut at 99 %": _cut(0.99),
    "a bit of a tensor": _flip_in_a_tensor,
    "random bytes": _random_bytes,
    "another zip": _another_zip,
    "a plain pickle": lambda path: path.write_bytes(pickle.dumps({"state": STATE, "fingerprint": FINGERPRINT})),
    "a state dict": _saved({"weight": torch.zeros(2)}),
    "no fingerprint": _saved({"state": STATE}),
    "a fingerprint of nothing": _saved({"state": STATE, "fingerprint": None}),
    "a list": _saved([1, 2]),
    "a tensor": _saved(torch.zeros(2)),
    "a number": _saved(torch.zeros(())),
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence", "ignore:Detected pickle protocol")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_file_that_is_damaged_or_foreign_is_set_aside_and_training_starts_afresh(damage, tmp_path, capsys):
    task, path = _task(change_settings(epochs=2)), tmp_path / "cnn.checkpoint"
    undisturbed = _end(tiny_cnn(), task)
    with pytest.raises(_StopError):
        _end(tiny_cnn(), task, path, stop_in=2)
    damage(path)
    content = path.read_bytes()
    capsys.readouterr()
    best, history = _end(tiny_cnn(), task, path)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"cnn: {path} is damaged (")
    assert said[0].endswith("): set aside as cnn.checkpoint.aside; training starts afresh")
    assert len(said) == 3  # two epochs
    assert (tmp_path / "cnn.checkpoint.aside").read_bytes() == content
    assert history == undisturbed[1]
    assert same_bits(best, undisturbed[0])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_one_wrong_bit_anywhere_is_noticed_or_does_no_harm(tmp_path):
    path, state = tmp_path / "cnn.checkpoint", {"position": STATE["position"], "best": torch.arange(9.0)}
    _write(path, state)
    content, wrong = path.read_bytes(), []
    directory = content.index(b"PK\x01\x02")
    for place in range(len(content)):
        for bit in (8, 16) if place >= directory else (1 << place % 8,):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            try:
                found, _ = Checkpoint(path, FINGERPRINT).read()
                if found and (found.get("position"), *found.get("best", [])) != (state["position"], *state["best"]):
                    wrong.append((place, bit, "read as something else"))
            except Exception as error:  # whatever it is, it would be a traceback
                wrong.append((place, bit, repr(error)))
    assert wrong == []


class _Trap:
    """Runs code where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_never_run(tmp_path):
    marker, path = tmp_path / "was run", tmp_path / "cnn.checkpoint"
    trap = {"state": _Trap(marker), "fingerprint": FINGERPRINT}
    for write in (torch.save, lambda content, place: place.write_bytes(pickle.dumps(content))):
        write(trap, path)
        state, said = Checkpoint(path, FINGERPRINT).read()
        assert state is None
        assert "is damaged (" in said
        assert not marker.exists()
    torch.save(trap, path)
    torch.load(path, weights_only=False)  # the trap is one
    assert marker.exists()


def _stop(model_file: Path, task: Task) -> None:
    """Train as a stage does, and stop in the second epoch."""

    def stop(rows: list[dict]) -> None:
        if len(rows) == 2:
            raise _StopError

    def train() -> None:
        network = tiny_cnn()
        with resumable(model_file, network, task) as checkpoint:
            try:
                fit(network, task, stop, checkpoint)
            finally:
                checkpoint.wait()

    with pytest.raises(_StopError):
        train()


def _train(model_file: Path, task: Task, network: nn.Module | None = None) -> dict[str, torch.Tensor]:
    network = network or tiny_cnn()
    with resumable(model_file, network, task) as checkpoint:
        return copy_state(fit(network, task, lambda rows: None, checkpoint))


def _other_pixel(task: Task) -> Task:
    images = task.val.images.copy()
    images[0, 0, 0, 0] += 1
    return make_task(task.settings, train=task.train, val=Pack(images, task.val.labels))


def _other_weight() -> nn.Module:
    network = tiny_cnn()
    with torch.no_grad():
        network.head[-1].bias[0] += 0.001
    return network


def test_a_stopped_stage_goes_on_and_leaves_no_checkpoint_when_it_has_ended(tmp_path, capsys):
    task = _task(change_settings(epochs=3))
    undisturbed = _train(tmp_path / "undisturbed.safetensors", task)
    model_file = tmp_path / "models" / "cnn.safetensors"
    _stop(model_file, task)
    assert (model_file.parent / "cnn.checkpoint").is_file()
    capsys.readouterr()
    assert same_bits(_train(model_file, task), undisturbed)
    assert "goes on from" in capsys.readouterr().out
    assert [path.name for path in model_file.parent.iterdir() if path.suffix != ".lock"] == []


@pytest.fixture
def code(monkeypatch, tmp_path) -> Path:
    """The file of a module of the pipeline that is imported."""
    path = tmp_path / "invented.py"
    path.write_text("RATE = 1\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("stages.invented", path)
    monkeypatch.setitem(sys.modules, "stages.invented", importlib.util.module_from_spec(spec))
    return path


@pytest.mark.parametrize("kind", ["parameters", "code", "data", "initial weights"])
def test_a_checkpoint_of_another_training_is_set_aside_with_what_differs(kind, tmp_path, code, capsys):
    model_file, task, network = tmp_path / "cnn.safetensors", _task(change_settings(epochs=2)), None
    _stop(model_file, task)
    if kind == "parameters":
        task = _task(change_settings(epochs=2, lr=0.02))
    elif kind == "code":
        code.write_text("RATE = 2\n", encoding="utf-8")
    elif kind == "data":
        task = _other_pixel(task)
    else:
        network = _other_weight()
    capsys.readouterr()
    best = _train(model_file, task, network)
    said = capsys.readouterr().out.splitlines()
    path = tmp_path / "cnn.checkpoint"
    assert said[0] == (
        f"cnn: {path} belongs to a training with other {kind}: set aside as cnn.checkpoint.aside; "
        "training starts afresh"
    )
    assert len(said) == 3
    fresh = _other_weight() if kind == "initial weights" else tiny_cnn()
    assert same_bits(best, _train(tmp_path / "fresh.safetensors", task, fresh))
    assert not path.exists()


def test_a_parameter_that_is_changed_and_changed_back_loses_neither_training(tmp_path, capsys):
    model_file = tmp_path / "cnn.safetensors"
    one, other = _task(change_settings(epochs=3)), _task(change_settings(epochs=3, lr=0.02))
    undisturbed = _train(tmp_path / "fresh.safetensors", one, tiny_cnn())
    _stop(model_file, one)
    _stop(model_file, other)
    capsys.readouterr()
    assert same_bits(_train(model_file, one), undisturbed)
    assert capsys.readouterr().out.startswith(f"cnn: goes on from {model_file.with_suffix('.checkpoint.aside')}, after")
    _train(model_file, other)
    assert "goes on from" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes", [{"augment": {"flip": False}}, {"seed": 2}, {"settings": {"epochs": 3}}, {"train": 22}], ids=str
)
def test_whatever_a_training_depends_on_tells_it_from_others(changes, tmp_path):
    task = _task(change_settings(epochs=2))
    other = make_task(
        task.settings.model_copy(update=changes.get("settings", {})),
        train=noise_pack(changes.get("train", 23)),
        val=task.val,
        seed=changes.get("seed", task.seed),
        augment=task.augment.model_copy(update=changes.get("augment", {})),
    )
    with resumable(tmp_path / "a", tiny_cnn(), task) as one, resumable(tmp_path / "b", tiny_cnn(), other) as another:
        assert one.fingerprint != another.fingerprint
    with resumable(tmp_path / "a", tiny_cnn(), _task(change_settings(epochs=2))) as again:
        assert one.fingerprint == again.fingerprint


def test_all_kinds_that_differ_are_named(tmp_path):
    path = tmp_path / "cnn.checkpoint"
    _write(path, fingerprint={"code": "x", "data": "b", "weights": "y"})
    state, said = Checkpoint(path, {"code": "a", "data": "b", "weights": "c"}).read()
    assert state is None
    assert "belongs to a training with other code and weights: set aside" in said


def test_remove_takes_the_checkpoint_and_leaves_what_was_set_aside(tmp_path):
    path = tmp_path / "cnn.checkpoint"
    path.write_bytes(b"damaged")
    checkpoint = Checkpoint(path, FINGERPRINT)
    checkpoint.read()
    checkpoint.write(STATE)
    checkpoint.remove()
    assert [each.name for each in tmp_path.iterdir()] == ["cnn.checkpoint.aside"]
    checkpoint.remove()  # nothing there is no mistake


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder with room for one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mount is refused here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("n_numbers", [200_000, 10_000_000])
def test_a_full_disk_is_said_to_be_one_and_leaves_the_older_checkpoint(small_disk, n_numbers):
    path = small_disk / "cnn.checkpoint"
    _write(path, {**STATE, "filling": torch.zeros(80_000)})  # 320 kB, and no room for 800 more
    checkpoint = Checkpoint(path, FINGERPRINT)
    checkpoint.write({**STATE, "filling": torch.zeros(n_numbers)})
    with pytest.raises(OSError, match="No space left") as error:
        checkpoint.wait()
    assert error.value.errno == errno.ENOSPC
    assert _is_whole(path)
    assert [each.name for each in small_disk.iterdir()] == ["cnn.checkpoint"]
    checkpoint.write({**STATE, "filling": torch.ones(80_000)})  # there is room for this one again
    checkpoint.wait()
    assert Checkpoint(path, FINGERPRINT).read()[0]["filling"].all()


def test_a_full_disk_that_shows_when_a_file_is_forced_onto_it_is_told_by_the_next_write(tmp_path, monkeypatch):
    path = tmp_path / "cnn.checkpoint"
    _write(path)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint = Checkpoint(path, FINGERPRINT)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        checkpoint.write({**STATE, "epoch": 1})
        with pytest.raises(OSError, match="No space left"):
            checkpoint.write({**STATE, "epoch": 2})
    assert _is_whole(path)


def test_remove_takes_whatever_a_kill_or_a_full_disk_has_left(tmp_path, monkeypatch):
    path = tmp_path / "cnn.checkpoint"
    _write(path)
    _write(path)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            _write(path)
    Checkpoint(path, FINGERPRINT).remove()
    assert list(tmp_path.iterdir()) == []


def _python(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_kill_before_the_new_checkpoint_has_its_name_leaves_the_older_one(tmp_path):
    path = tmp_path / "cnn.checkpoint"
    _write(path)
    script = (
        "import os, pathlib, sys, torch\n"
        "from stages.shared import checkpoints\n"
        "os.replace = os.rename = lambda *_, **__: os.kill(os.getpid(), 9)\n"
        f"checkpoint = checkpoints.Checkpoint(pathlib.Path(sys.argv[1]), {FINGERPRINT!r})\n"
        "checkpoint.write({'best': torch.zeros(9)})\n"
        "checkpoint.wait()\n"
    )
    with _python(script, path) as process:
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert _is_whole(path)
    _write(path, {**STATE, "epoch": 3})
    assert Checkpoint(path, FINGERPRINT).read()[0]["epoch"] == 3


def test_one_process_at_a_time_trains_a_model_and_a_kill_frees_it(tmp_path, monkeypatch):
    path = tmp_path / "models" / "cnn.safetensors"
    script = (
        "import pathlib, sys, time\n"
        "from stages.training.checkpoints import only_one\n"
        "from stages.training.processes import ALONE\n"
        "with only_one(pathlib.Path(sys.argv[1]), ALONE):\n"
        "    print('holds it', flush=True)\n"
        "    time.sleep(60)\n"
    )
    monkeypatch.setattr(checkpoints, "PATIENCE_S", 0.2)
    with _python(script, path) as process:
        assert process.stdout.readline() == "holds it\n"
        with (
            pytest.raises(UserError, match=r"cnn\.lock.*another process still trains this model"),
            only_one(path, ALONE),
        ):
            pass
        with only_one(path.with_name("vgg16.safetensors"), ALONE):
            pass
        process.kill()
        process.wait(timeout=10)
    with only_one(path, ALONE):
        pass


def test_an_orphan_that_ends_soon_is_waited_for(tmp_path):
    path = tmp_path / "cnn.safetensors"
    script = (
        "import pathlib, sys, time\n"
        "from stages.training.checkpoints import only_one\n"
        "from stages.training.processes import ALONE\n"
        "with only_one(pathlib.Path(sys.argv[1]), ALONE):\n"
        "    print('holds it', flush=True)\n"
        "    time.sleep(0.3)\n"
    )
    with _python(script, path) as process:
        assert process.stdout.readline() == "holds it\n"
        with only_one(path, ALONE):
            pass
        assert process.wait(timeout=10) == 0
