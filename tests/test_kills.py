"""Work that nothing loses: trainings under a real `dvc repro` that end before their time, and go on to the same bytes.

QUINTET_KILLS=20 makes more kills; a failure says the seed, QUINTET_KILL_SEED repeats it.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipelines import Clone

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

N_KILLS = int(os.environ.get("QUINTET_KILLS", "4"))
SEED = int(os.environ.get("QUINTET_KILL_SEED", "") or random.SystemRandom().randrange(10**6))
TRAIN = "python -m stages.train cnn data/packed data/models/cnn.safetensors metrics/models/cnn/history.csv"
THIRD = "^cnn epoch +3/"  # only now is the first one sure to lie on the disk
OUTPUTS = ("data/models/cnn.safetensors", "metrics/models/cnn/history.csv")


def shape(params: dict) -> None:
    """Leave one model, whose epochs take long enough to be killed in."""
    params["models"] = {"cnn": params["models"]["cnn"] | {"epochs": 4 + 3 * N_KILLS, "filters": 16}}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that is packed and not trained, beside the outputs of an undisturbed training."""
    clone = Clone(tmp_path_factory.mktemp("packed"), change=shape)
    clone.run("dvc repro pack")
    clone.run(TRAIN)
    clone.undisturbed = clone.bytes_of(*OUTPUTS)
    for name in OUTPUTS:
        (clone.folder / name).unlink()
    return clone


@pytest.fixture
def clone(packed: Clone, tmp_path: Path) -> Clone:
    shutil.copytree(packed.folder, tmp_path / "clone")
    return packed.beside(tmp_path / "clone")


def read_until(process: subprocess.Popen, marker: str) -> None:
    """Read lines until one matches the marker, or there are no more."""
    for line in process.stdout:
        if re.search(marker, line):
            return


def epochs_trained(output: str) -> list[int]:
    return [int(number) for number in re.findall(r"^cnn epoch +(\d+)/", output, re.MULTILINE)]


def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(clone, packed):
    rng, n_running = random.Random(SEED), 0
    for _ in range(N_KILLS):
        with clone.start("dvc repro train@cnn") as process:
            read_until(process, rng.choice([r"^Running stage 'train@cnn'", r"^cnn epoch +\d"]))
            time.sleep(rng.uniform(0, 0.5))
            n_running += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
    assert n_running == N_KILLS, f"QUINTET_KILL_SEED={SEED}"
    clone.run("dvc repro train@cnn")
    assert clone.bytes_of(*OUTPUTS) == packed.undisturbed, f"QUINTET_KILL_SEED={SEED}"
    assert [path.name for path in (clone.folder / "data/models").iterdir()] == ["cnn.safetensors"]


def test_a_stage_whose_dvc_was_killed_ends_by_itself_and_the_next_goes_on(clone, packed):
    with clone.start("dvc repro train@cnn") as process:
        read_until(process, THIRD)
        stage = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name() != "sh"]
        process.kill()
        assert psutil.wait_procs(stage, timeout=30)[1] == []
        assert "stopped by SIGTERM" in process.stdout.read()
    assert epochs_trained(clone.run("dvc repro train@cnn"))[0] >= 2
    assert clone.bytes_of(*OUTPUTS) == packed.undisturbed


@pytest.mark.parametrize(("sign", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_told_to_stop_says_so_on_one_line_and_goes_on_later(clone, packed, sign, exit_code):
    with clone.start(TRAIN) as process:
        read_until(process, THIRD)
        process.send_signal(sign)
        rest = process.stdout.read()
    assert process.returncode == exit_code
    assert re.sub("(?m)^cnn epoch.*\n", "", rest) == f"stopped by {sign.name}; run again to go on\n"
    assert epochs_trained(clone.run(TRAIN))[0] >= 2
    assert clone.bytes_of(*OUTPUTS) == packed.undisturbed


def test_a_comment_keeps_the_checkpoint_and_changed_code_does_not(clone, packed):
    def edit(text: str) -> None:
        with (clone.folder / "stages/training/loop.py").open("a", encoding="utf-8") as file:
            file.write(text)

    def stop() -> None:
        with clone.start(TRAIN) as process:
            read_until(process, THIRD)
            os.killpg(process.pid, signal.SIGKILL)

    stop()
    edit("# a comment\n")
    assert epochs_trained(clone.run(TRAIN))[0] >= 2
    assert clone.bytes_of(*OUTPUTS) == packed.undisturbed
    edit("EDITED = 1\n")
    stop()
    edit("EDITED = 2\n")
    assert epochs_trained(clone.run(TRAIN))[0] == 1
