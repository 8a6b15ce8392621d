"""No work is lost: trainings under a real `dvc repro` that are killed resume and end with the same bytes.

QUINTET_KILLS=20 kills more often; a failure prints the seed, and QUINTET_KILL_SEED repeats it.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.pipelines import Clone

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

N_KILLS = int(os.environ.get("QUINTET_KILLS", "4"))
SEED = int(os.environ.get("QUINTET_KILL_SEED", "") or random.SystemRandom().randrange(10**6))
TRAIN = "python -m stages.train cnn data/packed/32 data/models/cnn.safetensors metrics/models/cnn/history.csv"
THIRD = "^cnn epoch +3/"  # only now is the first checkpoint certainly on the disk
OUTPUTS = ("data/models/cnn.safetensors", "metrics/models/cnn/history.csv")


def shape(params: dict) -> None:
    """Keep one model, with epochs long enough for a kill, and with everything that a checkpoint has to contain."""
    hard = {"epochs": 4 + 2 * N_KILLS, "rounds": 2, "patience": 3 + N_KILLS, "mixup": 0.2, "ema_decay": 0.9}
    params["models"] = {"cnn": params["models"]["cnn"] | hard | {"filters": 16}}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with packed images and no training, and the outputs of an undisturbed training."""
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
    """Read lines until one matches the marker, or the output ends."""
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
    assert {path.name for path in (clone.folder / "data/models").iterdir()} == {"cnn.safetensors", "names.json"}


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
    assert re.sub("(?m)^cnn epoch.*\n", "", rest) == f"stopped by {sign.name}; run the same command again to resume\n"
    assert epochs_trained(clone.run(TRAIN))[0] >= 2
    assert clone.bytes_of(*OUTPUTS) == packed.undisturbed


def test_a_comment_keeps_the_checkpoint_and_changed_code_does_not(clone, packed):
    def edit(text: str) -> None:
        with (clone.folder / "stages/training/trainer.py").open("a", encoding="utf-8") as file:
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


def test_a_training_killed_after_the_line_of_its_last_epoch_is_never_run_again(clone):
    clone.edit(lambda params: params["models"]["cnn"].update(epochs=2))
    rng = random.Random(SEED)
    for seed in range(10):
        clone.edit(lambda params, seed=seed: params.update(seed=seed))
        delay = rng.choice([0, rng.uniform(0, 0.2), rng.uniform(0, 2)])  # until DVC has cached the model, or nearly
        with clone.start("dvc repro train@cnn") as process:
            read_until(process, "^cnn epoch 2/2")
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
        assert epochs_trained(clone.run("dvc repro train@cnn")) == [], f"{delay} s, QUINTET_KILL_SEED={SEED}"


RATES = ("0.001", "0.002", "0.003", "0.004")


def start_queue(clone: Clone) -> None:
    whole = "-S models.cnn.epochs=120 -S models.cnn.rounds=1 -S models.cnn.patience=0"  # none ends before the kill
    clone.run(f"dvc exp run --queue {whole} -S models.cnn.lr={','.join(RATES)}")
    clone.run("sh -c 'dvc queue start -j 2 > start.log 2>&1'")  # the workers would keep its pipe open


def read_queue(clone: Clone) -> dict[str, str]:
    """Return {experiment: status}."""
    lines = clone.run("dvc queue status").splitlines()
    return {line.split()[1]: line.split()[-1] for line in lines if re.match("[0-9a-f]{7} ", line)}


def wait_for(condition: Callable[[], bool], limit_s: float = 900) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_s
        time.sleep(0.1)


def last_epochs(clone: Clone) -> dict[str, int]:
    """Return the last epoch in the history of each running experiment, by its learning rate."""
    found, committed = {}, (clone.folder / "metrics/models/cnn/history.csv").read_text(encoding="utf-8")
    for history in clone.folder.glob(".dvc/tmp/exps/tmp*/metrics/models/cnn/history.csv"):
        with suppress(FileNotFoundError):  # the copy is still being made, or its committed history was just removed
            rate, text = str(clone.beside(history.parents[3]).read()["models"]["cnn"]["lr"]), history.read_text("utf-8")
            if text != committed:  # the training has begun
                found[rate] = int(text.splitlines()[-1].split(",")[1])
    return found


def test_a_queue_killed_halfway_and_filled_again_repeats_no_epoch_but_the_last(clone):
    clone.run("dvc repro")
    clone.commit()
    start_queue(clone)
    wait_for(lambda: len(last_epochs(clone)) == 2 and min(last_epochs(clone).values()) > 20)
    for file in clone.folder.glob(".dvc/tmp/exps/celery/*.pid"):
        os.killpg(os.getpgid(int(file.read_text())), signal.SIGKILL)
    before = last_epochs(clone)
    clone.run(f"dvc queue kill {' '.join(name for name, status in read_queue(clone).items() if status == 'Running')}")
    clone.run("dvc queue remove --all")
    start_queue(clone)
    wait_for(lambda: set(read_queue(clone).values()) == {"Success"})
    rates = {
        experiment["name"]: str(experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]["models"]["cnn"]["lr"])
        for experiment in json.loads(clone.run("dvc exp show --json"))[1]["experiments"]
    }
    first = {}
    for name in read_queue(clone):
        first[rates[name]] = epochs_trained(clone.run(f"dvc queue logs {name}"))[0]
    assert first.keys() == set(RATES)
    for rate in RATES:
        # the history is a moment ahead of the checkpoint
        assert first[rate] in ((before[rate], before[rate] + 1) if rate in before else (1,))
