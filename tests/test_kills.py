"""Work that nothing loses: a real `dvc repro` killed at random moments, and trainings that end before their time.

QUINTET_KILLS=20 makes more kills; a failure says the seed, QUINTET_KILL_SEED repeats it.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.test_pipeline import Clone

N_KILLS = int(os.environ.get("QUINTET_KILLS", "4"))
SEED = int(os.environ.get("QUINTET_KILL_SEED", "") or random.SystemRandom().randrange(10**6))
N_EPOCHS = 8 if N_KILLS < 8 else 9 + 2 * N_KILLS
TRAIN = "train cnn data/packed data/models/cnn.safetensors metrics/cnn/history.csv"
OUTPUTS = ("data/packed", "data/models/cnn.safetensors", "metrics/cnn/history.csv", "dvc.lock")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose images are split, and nothing more."""
    clone = Clone(tmp_path_factory.mktemp("start"))
    clone.set_param("models.cnn.epochs", N_EPOCHS)
    clone.set_param("models.cnn.filters", 24)
    clone.set_param("models.cnn.batch_size", 16)
    clone.run("dvc repro split")
    return clone


@pytest.fixture(scope="module")
def undisturbed(start: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = copy(start, tmp_path_factory.mktemp("undisturbed"))
    clone.run("dvc repro train@cnn")
    return clone


@pytest.fixture
def clone(start: Clone, tmp_path: Path) -> Clone:
    return copy(start, tmp_path / "clone")


@pytest.fixture
def packed(undisturbed: Clone, tmp_path: Path) -> Clone:
    """A clone that is packed, and not trained."""
    clone = copy(undisturbed, tmp_path / "packed")
    (clone.folder / "data/models/cnn.safetensors").unlink()
    return clone


def copy(clone: Clone, folder: Path) -> Clone:
    shutil.copytree(clone.folder, folder, dirs_exist_ok=True)
    other = Clone.__new__(Clone)
    other.folder = folder
    return other


def begin(clone: Clone, command: str) -> subprocess.Popen:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "QUINTET_DEVICE": "cpu", "PYTHONPATH": ""}
    return subprocess.Popen(
        command.split(),
        cwd=clone.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen, marker: str) -> str:
    """Read lines until one matches the marker; return what was read, all of it if none does."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(marker, line):
            break
    return "".join(lines)


def kill_group(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def contents(clone: Clone) -> dict[str, bytes]:
    paths = [clone.folder / name for name in OUTPUTS]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {file.relative_to(clone.folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def epochs_trained(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^cnn epoch +(\d+)/", output, re.MULTILINE)]


def choose_moments(rng: random.Random) -> Iterator[tuple[str, float]]:
    """Give the line after which, and how many seconds after it, each kill falls: a quarter of them while packing."""
    for number in range(N_KILLS):
        if number < max(1, N_KILLS // 4):
            yield "Running stage '(pack|train@cnn)'", rng.uniform(0, 0.8)  # once it is packed, it trains
        elif number < N_KILLS - 1:
            yield rng.choice(["Running stage 'train@cnn'", r"^cnn epoch +\d"]), rng.uniform(0, 0.5)
        else:
            yield r"^cnn epoch +([2-9]|\d\d)", 0  # an epoch at least lies behind it


def test_a_pipeline_killed_at_random_moments_ends_with_the_same_bytes(clone: Clone, undisturbed: Clone):
    for line, delay_s in choose_moments(random.Random(SEED)):
        process = begin(clone, "dvc repro train@cnn")
        output = read_until(process, line)
        time.sleep(delay_s)
        was_running = process.poll() is None
        kill_group(process)
        print(f"killed {delay_s:.2f} s after {line!r}: running {was_running}, trained {epochs_trained(output)}")
    lies_there = (clone.folder / "data/models/cnn.checkpoint").exists()
    output = clone.run("dvc repro train@cnn")
    assert ("goes on from data/models/cnn.checkpoint, after epoch" in output) == lies_there, f"QUINTET_KILL_SEED={SEED}"
    assert contents(clone) == contents(undisturbed), f"QUINTET_KILL_SEED={SEED}"
    left = [path.name for folder in ("data", "metrics") for path in (clone.folder / folder).rglob("*.*")]
    assert [name for name in left if "checkpoint" in name or "unfinished" in name] == []


def test_a_stage_whose_dvc_was_killed_ends_by_itself_and_the_next_goes_on(packed: Clone, undisturbed: Clone):
    process = begin(packed, "dvc repro train@cnn")
    read_until(process, "^cnn epoch 2/")
    stage = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name() != "sh"]
    os.kill(process.pid, signal.SIGKILL)
    assert psutil.wait_procs(stage, timeout=10)[1] == []
    assert "stopped by SIGTERM" in process.stdout.read()
    process.wait()
    output = packed.run("dvc repro train@cnn")
    assert epochs_trained(output)[0] >= 2
    assert contents(packed) == contents(undisturbed)


@pytest.mark.parametrize(("sign", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_told_to_stop_says_so_on_one_line_and_goes_on_later(
    packed: Clone, undisturbed: Clone, sign: signal.Signals, exit_code: int
):
    process = begin(packed, f"{sys.executable} -m stages.{TRAIN}")
    read_until(process, "^cnn epoch 2/")
    process.send_signal(sign)
    asked = time.monotonic()
    rest = process.stdout.read()
    assert process.wait() == exit_code
    assert time.monotonic() - asked < 5
    assert re.sub("(?m)^cnn epoch.*\n", "", rest) == f"stopped by {sign.name}; run again to go on\n"
    assert epochs_trained(packed.run("dvc repro train@cnn"))[0] >= 2
    assert contents(packed) == contents(undisturbed)


def test_another_learning_rate_starts_afresh_and_says_so(packed: Clone, undisturbed: Clone):
    process = begin(packed, "dvc repro train@cnn")
    read_until(process, "^cnn epoch 2/")
    kill_group(process)
    packed.set_param("models.cnn.lr", 0.0005)
    output = packed.run("dvc repro train@cnn")
    assert "belongs to a training with other parameters: set aside" in output
    assert epochs_trained(output) == list(range(1, N_EPOCHS + 1))
    other = copy(undisturbed, packed.folder.parent / "other")
    other.set_param("models.cnn.lr", 0.0005)
    other.run("dvc repro train@cnn")
    assert contents(packed) == contents(other)
    assert contents(packed) != contents(undisturbed)


def test_an_experiment_that_was_killed_goes_on(packed: Clone):
    packed.commit()
    command = "dvc exp run -S models.cnn.lr=0.0005 train@cnn"
    process = begin(packed, command)
    read_until(process, "^cnn epoch 2/")
    kill_group(process)
    output = packed.run(command)
    assert "goes on from data/models/cnn.checkpoint" in output
    assert epochs_trained(output)[0] >= 2
    assert epochs_trained(output)[-1] == N_EPOCHS


def test_a_damaged_checkpoint_is_set_aside_and_the_result_is_the_same(packed: Clone, undisturbed: Clone):
    process = begin(packed, "dvc repro train@cnn")
    read_until(process, "^cnn epoch 2/")
    kill_group(process)
    checkpoint = packed.folder / "data/models/cnn.checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    output = packed.run("dvc repro train@cnn")
    assert "cnn.checkpoint is damaged" in output
    assert epochs_trained(output) == list(range(1, N_EPOCHS + 1))
    assert contents(packed) == contents(undisturbed)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(packed: Clone):
    packed.set_param("models.cnn.phases", [{"epochs": 2, "lr": 0.001}])
    packed.set_param("models.cnn.schedule", "none")
    packed.set_param("models.cnn.optimizer", "sgd")
    packed.set_param("models.cnn.lr", 100)
    output = packed.run(f"{sys.executable} -m stages.{TRAIN}", expected=2)
    assert re.search(r"error: cnn: the loss is not finite in epoch 3, batch \d+, at lr 100; try", output)
    assert epochs_trained(output) == [1, 2]
    again = packed.run(f"{sys.executable} -m stages.{TRAIN}", expected=2)
    assert "after epoch 2" in again
    assert epochs_trained(again) == []


def test_a_full_disk_ends_the_run_on_one_line_and_the_next_goes_on(packed: Clone, undisturbed: Clone):
    models = packed.folder / "data/models"
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(models)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        process = begin(packed, f"{sys.executable} -m stages.{TRAIN}")
        read_until(process, "^cnn epoch 2/")
        with suppress(OSError):
            (models / "filler").write_bytes(bytes(2**25))
        rest = process.stdout.read()
        assert process.wait() == 2
        assert "No space left on device; make room, and run again" in rest
        assert "Traceback" not in rest
        (models / "filler").unlink()
        output = packed.run(f"{sys.executable} -m stages.{TRAIN}")
        assert "goes on from" in output
        assert (models / "cnn.safetensors").read_bytes() == contents(undisturbed)["data/models/cnn.safetensors"]
    finally:
        subprocess.run(["umount", str(models)], check=True)
