"""Several processes that train one network: they learn the same as one process, and end together."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from stages.networks.model_files import load_model
from stages.runtime.errors import UserError
from stages.settings.types import ModelSettings
from stages.training import processes as processes_module
from stages.training.checkpoints import open_checkpoint
from stages.training.job import Job
from stages.training.processes import ALONE, Processes, join_processes, spread_out
from stages.training.trainer import fit
from tests.parameters import write_params
from tests.repository import ROOT
from tests.trainings import (
    CPU,
    change_settings,
    copy_state,
    make_job,
    noise_split,
    numbered_split,
    same_bits,
    tiny_cnn,
)

SGD = {"optimizer": "sgd", "momentum": 0.9, "batch_size": 8, "epochs": 3, "schedule": "cosine"}
WEIGHTED = {"class_weights": "balanced", "label_smoothing": 0.1, "gradient_clip": 0.5, "rounds": 2, "ema_decay": 0.5}
N_TRAIN, N_VAL = 31, 7  # odd: the parts of the last batches differ


def build_plain_network() -> nn.Module:
    """Return a network without batch normalisation and dropout."""
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(4 * 7 * 7, 3)))


CASES = {
    "plain": (build_plain_network, change_settings(**SGD)),
    "weighted": (build_plain_network, change_settings(**SGD, **WEIGHTED)),
    "statistics": (tiny_cnn, change_settings(**SGD, ema_decay=0.5)),
}


def train(
    network: nn.Module, settings: ModelSettings, processes: Processes = ALONE, folder: Path | None = None
) -> dict:
    """Train on numbered images; write the checkpoint of the second epoch to `folder`, or resume from it."""
    job: Job = make_job(settings, numbered_split(N_TRAIN), noise_split(N_VAL), processes=processes)
    rows: list[dict] = []
    n_calls, checkpoint = 0, None
    if folder and processes.is_first:
        checkpoint = open_checkpoint(folder, network, job)

    def keep(history: list[dict]) -> None:
        nonlocal n_calls
        n_calls += 1
        rows[:] = [dict(row) for row in history]
        if checkpoint and len(rows) == 3:
            checkpoint.wait()
            shutil.copy(checkpoint.path, folder / "second epoch")

    best = copy_state(fit(network, job, keep, checkpoint))
    if checkpoint:
        checkpoint.wait()
        (folder / "second epoch").rename(checkpoint.path)
    return {"best": best, "rows": rows, "n_calls": n_calls}


def train_beside_another(processes: Processes, folder: Path) -> None:
    """Train every case in two processes, of which this is one; write the results to `folder`."""
    out = {name: train(build(), settings, processes) for name, (build, settings) in CASES.items()}
    build, settings = CASES["plain"]
    train(build(), settings, processes, folder)
    out["resumed"] = train(build(), settings, processes, folder)
    torch.save(out, folder / f"{processes.rank}.pt")


def join_and_run(rank: int, port: int, function: Callable[[Processes, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    function(join_processes(CPU), folder)
    torch.distributed.destroy_process_group()


def run_two(function: Callable[[Processes, Path], None], folder: Path, method: str = "fork") -> None:
    """Run a function in two connected processes; its arguments are the processes object and the folder."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context(method)  # forked processes need no imports
    fellows = [context.Process(target=join_and_run, args=(rank, port, function, folder)) for rank in (0, 1)]
    for fellow in fellows:
        fellow.start()
    for fellow in fellows:
        fellow.join(timeout=120)
    assert [fellow.exitcode for fellow in fellows] == [0, 0]


@pytest.fixture(scope="module")
def of_one() -> dict[str, dict]:
    """The results of one process for every case."""
    return {name: train(build(), settings) for name, (build, settings) in CASES.items()}


@pytest.fixture(scope="module")
def of_two(of_one, tmp_path_factory) -> list[dict]:
    """The results of two processes; rank 0 is first."""
    folder = tmp_path_factory.mktemp("of_two")
    # where there is a GPU, autograd cannot be forked
    run_two(train_beside_another, folder, "spawn" if torch.cuda.is_available() else "fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["plain", "weighted"])
def test_two_processes_learn_the_weights_that_one_learns(name, of_one, of_two):
    one, first, second = of_one[name], *(rank[name] for rank in of_two)
    assert same_bits(first["best"], second["best"])
    for key, tensor in one["best"].items():
        torch.testing.assert_close(first["best"][key], tensor, rtol=0, atol=1e-5)
    for row, other in zip(one["rows"], first["rows"], strict=True):
        assert other == pytest.approx(row, rel=0, abs=1e-5)
    assert second["rows"] == []  # only the first process writes


def test_with_batch_statistics_all_processes_keep_the_network_of_the_first(of_two):
    first, second = (rank["statistics"]["best"] for rank in of_two)
    assert any("running_mean" in name for name in first)
    assert same_bits(first, second)


def test_two_processes_go_on_from_their_checkpoint_to_the_same_bits(of_two):
    assert [rank["resumed"]["n_calls"] for rank in of_two] == [2, 0]  # with two epochs at once, then with the third
    for rank in of_two:
        assert same_bits(rank["resumed"]["best"], rank["plain"]["best"])


def wait_for_the_first(processes: Processes, _: Path) -> None:
    """Wait in two ways for the first process, which is late both times."""
    time.sleep(2 if processes.is_first else 0)
    assert processes.tell_all("state" if processes.is_first else None) == "state"
    if processes.is_first:
        time.sleep(2)
    else:
        with pytest.raises(RuntimeError, match=r"[Tt]imed out"):
            processes.add_up(torch.ones(1))


def test_the_others_wait_for_hours_until_the_first_one_has_hashed_and_no_longer_for_minutes(monkeypatch, tmp_path):
    monkeypatch.setattr(processes_module, "TIMEOUT", timedelta(seconds=1))
    run_two(wait_for_the_first, tmp_path)


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("QUINTET_PROCESSES", raising=False)
    spread_out("stages.train")
    assert join_processes(CPU) is ALONE


@pytest.mark.parametrize(("wanted", "found"), [("0", "'0'"), ("two", "'two'"), ("gpu", "no GPU")])
def test_a_number_of_processes_that_is_none_is_named(wanted, found, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("QUINTET_PROCESSES", wanted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=f"QUINTET_PROCESSES: .*{found}"):
        spread_out("stages.train")


@pytest.mark.parametrize(("wanted", "count", "threads"), [("1", 1, "2"), ("2", 2, "1"), ("gpu", 3, "1")])
def test_as_many_processes_as_are_wanted_run_the_command_and_share_the_cores(wanted, count, threads, monkeypatch):
    launched: list[tuple] = []
    set_launcher(monkeypatch, lambda config, *command: launched.append((config.nproc_per_node, *command)))
    for name, value in {"WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUINTET_PROCESSES", wanted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(processes_module, "count_cores", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["train.py", "cnn"])
    with pytest.raises(SystemExit) as ended:
        spread_out("stages.train")
    assert (ended.value.code, launched) == (0, [(count, sys.executable, "-m", "stages.train", "cnn")])
    assert os.environ["OMP_NUM_THREADS"] == threads


def set_launcher(monkeypatch, launch: Callable[..., None]) -> None:
    """Call `launch` with torch's configuration and the command, instead of starting processes."""
    launcher = "torch.distributed.launcher.api.elastic_launch"
    monkeypatch.setattr(launcher, lambda config, program: lambda *rest: launch(config, program, *rest))


@pytest.mark.parametrize(("exit_code", "expected"), [(3, 3), (-9, 1)])
def test_the_exit_code_is_that_of_the_process_that_failed_or_1_if_it_was_killed(
    exit_code, expected, monkeypatch, capsys
):
    def fail(*_: object) -> None:
        raise ChildFailedError("train", {1: ProcessFailure(1, 4711, exit_code, "no file")})

    set_launcher(monkeypatch, fail)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("QUINTET_PROCESSES", "2")
    with pytest.raises(SystemExit) as ended:
        spread_out("stages.train")
    assert ended.value.code == expected
    assert f"process 1 of 2 ended with exit code {exit_code}" in capsys.readouterr().err


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "WORLD_SIZE")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "QUINTET_DEVICE": "cpu", "QUINTET_PROCESSES": "2"}


def prepare_stage(folder: Path) -> None:
    """Write packs and parameters of `one`, a network without batch statistics and dropout."""
    block = {"architecture": "vgg", "weights": "data/weights/scratch", "lr": 0.01, "epochs": 2, "batch_size": 8}
    block |= {"optimizer": "sgd", "momentum": 0.9}  # Adam would divide by gradients that are only rounding errors
    block |= {"depth": 11, "batch_norm": False, "filters": 2, "dense_units": 4, "dropout": 0, "warmup_epochs": 0}
    write_params(folder / "params.yaml", models={"one": {**block, "image_size_px": 32}})
    for name in ("requirements.txt", "stages"):
        (folder / name).symlink_to(ROOT / name)
    for name, n in (("train", N_TRAIN), ("val", N_VAL)):
        split = noise_split(n, size_px=34)
        (folder / "packed" / name).mkdir(parents=True)
        np.save(folder / "packed" / name / "images.npy", split.images)
        np.save(folder / "packed" / name / "labels.npy", split.labels)
        np.save(folder / "packed" / name / "groups.npy", np.arange(n))
    (folder / "packed" / "classes.json").write_text('["red", "green", "blue"]', encoding="utf-8")


def start_training(folder: Path, out: str, launcher: tuple[str, ...] = (), processes: str = "") -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        *launcher,
        "stages.train",
        "one",
        "packed",
        f"{out}/one.safetensors",
        f"{out}/h.csv",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment() | {"QUINTET_PROCESSES": processes}, **pipes)


def read_history(folder: Path, out: str) -> pd.DataFrame:
    return pd.read_csv(folder / out / "h.csv")


@pytest.mark.slow
def test_the_train_stage_of_several_processes_or_nodes_learns_what_one_learns_and_writes_once(tmp_path):
    prepare_stage(tmp_path)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    nodes = ("torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d")
    nodes += ("--rdzv-endpoint", f"localhost:{port}", "-m")
    runs = {
        "alone": [start_training(tmp_path, "alone")],
        "spread": [start_training(tmp_path, "spread", processes="2")],
        "nodes": [start_training(tmp_path, "nodes", nodes) for _ in range(2)],
    }
    for out, started in runs.items():
        said = "".join(process.communicate(timeout=300)[0] for process in started)
        assert [process.returncode for process in started] == [0] * len(started), said
        assert [line[:13] for line in said.splitlines() if "val loss" in line] == ["one epoch 1/2", "one epoch 2/2"]
        found, expected = read_history(tmp_path, out), read_history(tmp_path, "alone")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1.5e-5)  # numbers have five decimals
        assert load_model(tmp_path / out / "one.safetensors")[1].class_names == ["red", "green", "blue"]
        assert sorted(path.name for path in (tmp_path / out).iterdir()) == ["h.csv", "one.safetensors"]


FAILING = """
import os, time
import torch
from stages.runtime.errors import UserError
from stages.training.processes import join_processes, spread_out
from stages.runtime.process import run_stage

def main():
    spread_out("failing")
    processes = join_processes(torch.device("cpu"))
    os.write(1, b"running\\n")  # in one piece: two processes write
    if processes.rank == 1 and {fails}:
        raise UserError("this is what is wrong")
    time.sleep(120)

run_stage(main)
"""


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Return a function that starts a module in two processes; all of them end with the test."""
    started: list[psutil.Popen] = []

    def start(fails: bool) -> psutil.Popen:
        (tmp_path / "failing.py").write_text(FAILING.format(fails=fails), encoding="utf-8")
        command = [sys.executable, "-m", "failing"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(psutil.Popen(command, cwd=tmp_path, env=environment(), **pipes))
        return started[0]

    yield start
    for each in [*started[0].children(recursive=True), *started] if started[0].poll() is None else []:
        each.kill()


@pytest.mark.slow
def test_a_process_that_fails_ends_them_all_and_says_why(start):
    process = start(fails=True)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "error: this is what is wrong\n" in err


@pytest.mark.slow
def test_a_stage_of_several_processes_that_is_told_to_stop_ends_with_all_of_them(start):
    process = start(fails=False)
    for _ in range(2):
        assert process.stdout.readline() == "running\n"
    family = process.children(recursive=True)
    process.terminate()
    _, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    assert process.returncode == 128 + signal.SIGTERM
    assert psutil.wait_procs(family, timeout=10)[1] == []
