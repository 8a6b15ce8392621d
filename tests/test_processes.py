"""Several processes that train one network: they learn what one would, and end together."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from torch import nn

from stages import train
from stages.networks.batches import place_pack
from stages.networks.devices import computes_bf16
from stages.networks.model_files import load_model
from stages.pixels.packed_splits import Pack
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly
from stages.training.history import COLUMNS
from stages.training.learner import Learner
from stages.training.loop import Task, fit, resumable, validate
from stages.training.processes import ALONE, Processes, join_processes, spread_out
from tests.imports import ROOT
from tests.trainings import (
    CPU,
    SIZE,
    change_settings,
    copy_state,
    make_task,
    noise_pack,
    plain_pack,
    same_bits,
    tiny_cnn,
)

SGD = {"optimizer": "sgd", "batch_size": 8, "epochs": 3, "schedule": "cosine"}
SETTINGS = {
    "plain": change_settings(**SGD),
    "weighted": change_settings(
        **SGD, class_weights="balanced", label_smoothing=0.1, gradient_clip=0.5, rounds=2, ema_decay=0.5
    ),
    "statistics": change_settings(**{**SGD, "epochs": 1}),
    "average of statistics": change_settings(**{**SGD, "epochs": 1}, ema_decay=0.5),
}
N_TRAIN, N_VAL = 31, 7  # odd: the parts of the last batches differ


def shaded_task(settings, processes: Processes = ALONE) -> Task:
    """Return a task whose training image number i is 8 * i throughout; class 0 has more images than the others."""
    images = np.broadcast_to(8 * np.arange(N_TRAIN)[:, None, None, None], (N_TRAIN, SIZE + 2, SIZE + 2, 3))
    train = Pack(np.ascontiguousarray(images, dtype=np.uint8), np.maximum(np.arange(N_TRAIN) % 5 - 2, 0))
    return make_task(settings, train, noise_pack(N_VAL), processes=processes)


def build_plain_network() -> nn.Module:
    """Return a network without batch normalisation and dropout, whose first layer keeps what it is shown."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 3))
    network.shown = []
    network.register_forward_pre_hook(
        lambda net, args: net.shown.append(args[0][:, 0, 0, 0].tolist()) if net.training else None
    )
    return network


def train_in_processes(folder: Path) -> None:
    """Train every case in this process and its fellows; leave what came out in `folder`, a file a process."""
    import shutil

    processes = join_processes(CPU)
    out = {}
    for name, settings in SETTINGS.items():
        network, rows = tiny_cnn() if "statistics" in name else build_plain_network(), []
        task = shaded_task(settings, processes)
        model_file = folder / f"{name}.safetensors"
        with resumable(model_file, network, task) as checkpoint:

            def keep(history: list[dict], rows=rows, checkpoint=checkpoint, name=name) -> None:
                rows[:] = [dict(row) for row in history]
                if len(rows) == 3:  # what is on the disk is the state after the second epoch
                    checkpoint.wait()
                    shutil.copy(checkpoint.path, folder / f"{name}.kept")

            best = copy_state(fit(network, task, keep, checkpoint))
        out[name] = {"best": best, "rows": rows, "shown": getattr(network, "shown", []), "writes": bool(checkpoint)}
    if processes.is_first:
        (folder / "plain.kept").rename(folder / "plain.checkpoint")
    network, rows = build_plain_network(), []
    with resumable(folder / "plain.safetensors", network, shaded_task(SETTINGS["plain"], processes)) as checkpoint:
        best = fit(network, shaded_task(SETTINGS["plain"], processes), rows.extend, checkpoint)
    out["resumed"] = {"best": copy_state(best), "n_batches": len(network.shown)}
    torch.save(out, folder / f"{processes.rank}.pt")
    torch.distributed.destroy_process_group()


def _run_in_two(folder: Path, script: str, timeout_s: float = 60) -> subprocess.CompletedProcess:
    path = folder / "script.py"
    path.write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(path)]
    return subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=timeout_s, check=False
    )


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "WORLD_SIZE")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "QUINTET_DEVICE": "cpu", **more}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize(("start", "end"), [(0, 0), (0, 1), (3, 10), (0, 31), (24, 31), (5, 20)])
def test_shares_cover_all_rows_once_and_differ_by_one_at_most(start, end, count):
    parts = [list(range(100))[Processes(rank, count).share(start, end)] for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(start, end))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_alone_shares_with_none():
    tensor = torch.tensor([1.0, 2.0])
    assert ALONE.is_first
    assert ALONE.share(3, 9) == slice(3, 9)
    assert ALONE.add_up(tensor) is tensor
    assert tensor.tolist() == [1, 2]
    assert ALONE.tell_all("this") == "this"
    assert ALONE.wait() is None


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes(CPU) is ALONE


@pytest.mark.parametrize("wanted", ["0", "two", "-1", "1.5", " "])
def test_a_number_of_processes_that_is_none_is_named(wanted, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("QUINTET_PROCESSES", wanted)
    with pytest.raises(UserError, match=f"^QUINTET_PROCESSES: expected a number of processes, .* found '{wanted}'$"):
        spread_out("stages.train")


def test_without_the_wish_or_within_a_process_nothing_is_spread(monkeypatch):
    monkeypatch.setenv("QUINTET_PROCESSES", "")
    spread_out("stages.train")
    monkeypatch.setenv("QUINTET_PROCESSES", "nonsense")
    monkeypatch.setenv("WORLD_SIZE", "2")
    spread_out("stages.train")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> list[dict]:
    """What two processes left, first that of rank 0."""
    folder = tmp_path_factory.mktemp("of_two")
    script = (
        "import pathlib\nfrom tests.test_processes import train_in_processes\ntrain_in_processes(pathlib.Path.cwd())\n"
    )
    done = _run_in_two(folder, script)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    ranks[0]["files"] = sorted(path.name for path in folder.iterdir())
    return ranks


@pytest.fixture(scope="module", params=["plain", "weighted"])
def case(request, of_two) -> tuple[dict, dict, dict]:
    """What one process gives, and what each of two gives."""
    network, rows = build_plain_network(), []

    def keep(history: list[dict]) -> None:
        rows[:] = [dict(row) for row in history]

    best = copy_state(fit(network, shaded_task(SETTINGS[request.param]), keep))
    return {"best": best, "rows": rows, "shown": network.shown}, *(rank[request.param] for rank in of_two)


def test_two_processes_learn_the_weights_that_one_learns(case):
    one, *ranks = case
    for rank in ranks:
        for name, tensor in one["best"].items():
            torch.testing.assert_close(rank["best"][name], tensor, rtol=0, atol=1e-5)


def test_two_processes_give_the_history_that_one_gives(case):
    one, first, second = case
    assert len(one["rows"]) == len(first["rows"]) in (3, 6)
    for row, other in zip(one["rows"], first["rows"], strict=True):
        assert other == pytest.approx(row, rel=0, abs=1e-5)
    assert second["rows"] == []  # the first one alone writes


def test_all_processes_have_the_same_weights(case):
    _, first, second = case
    assert same_bits(first["best"], second["best"])


def test_each_image_is_shown_once_an_epoch_to_one_of_the_processes(case):
    one, *ranks = case
    n_epochs = len(one["rows"])
    n_batches = 4  # of 8, 8, 8 and 7 images
    for epoch in range(n_epochs):
        batches = slice(n_batches * epoch, n_batches * (epoch + 1))
        values = [value for rank in ranks for batch in rank["shown"][batches] for value in batch]
        pixels = sorted(round((value * 0.229 + 0.485) * 255) for value in values)
        assert pixels == [8 * i for i in range(N_TRAIN)]
    assert [[len(batch) for batch in rank["shown"][:4]] for rank in ranks] == [[4, 4, 4, 3], [4, 4, 4, 4]]


def test_the_first_process_alone_writes(of_two):
    assert [rank["plain"]["writes"] for rank in of_two] == [True, False]
    assert not [name for name in of_two[0]["files"] if name.endswith((".checkpoint", ".aside")) or "unfinished" in name]


def test_two_processes_go_on_from_their_checkpoint_to_the_same_bits(of_two):
    for rank in of_two:
        assert rank["resumed"]["n_batches"] == 4  # of the third epoch alone
        assert same_bits(rank["resumed"]["best"], rank["plain"]["best"])


@pytest.mark.parametrize("name", ["statistics", "average of statistics"])
def test_with_batch_statistics_all_processes_validate_and_keep_the_network_of_the_first(name, of_two):
    first, second = (rank[name] for rank in of_two)
    assert any("running_mean" in name for name in first["best"])
    assert same_bits(first["best"], second["best"])
    task = shaded_task(change_settings())
    network = tiny_cnn()
    network.load_state_dict(first["best"])
    learner = Learner(network.to(memory_format=torch.channels_last), task.settings, None, ALONE, CPU)
    (row,) = first["rows"]
    assert validate(learner, task, place_pack(task.val, CPU)) == pytest.approx(
        (row["val_loss"], row["val_accuracy"]), abs=1e-5
    )


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
    processes.wait()
    time.sleep(120)

run_stage(main)
"""


@pytest.fixture
def spread(tmp_path) -> Iterator:
    """Return a function that starts a module of two processes; nothing of it outlives the test."""
    started = []

    def start(fails: bool) -> subprocess.Popen:
        (tmp_path / "failing.py").write_text(FAILING.format(fails=fails), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "failing"],
            cwd=tmp_path,
            env=_environment(QUINTET_PROCESSES="2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append((process, []))
        return process

    yield start
    for process, _ in started:
        family = [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
        for each in (*family, process):
            each.kill()
        process.communicate()


def test_a_process_that_fails_ends_them_all_and_says_why(spread):
    process = spread(fails=True)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (1, 2)  # of the one that is wrong, or of the one that waited for it in vain
    assert "error: this is what is wrong\n" in err
    assert re.fullmatch(r"error: process [01] of 2 ended with exit code [12]", err.splitlines()[-1])


def test_a_stage_of_several_processes_that_is_told_to_stop_ends_with_all_of_them_and_no_traceback(spread):
    process = spread(fails=False)
    for _ in range(2):
        assert process.stdout.readline() == "running\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    process.terminate()
    _, err = process.communicate(timeout=40)
    assert "Traceback" not in err
    assert process.returncode == 128 + signal.SIGTERM
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


STAGE_ARGUMENTS = ["cnn", "packed", "models/cnn.safetensors", "metrics/history.csv"]


@pytest.fixture
def stage_folder(tmp_path) -> Path:
    """A folder with a pack of plain colours, and parameters for a cnn that is as small as it runs."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"image_size_px": 32}
    params["models"]["cnn"] |= {"filters": 2, "dense_units": 4, "epochs": 2, "warmup_epochs": 0, "batch_size": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for split, n in (("train", 31), ("val", 7)):
        pack = plain_pack([i % 3 for i in range(n)], size_px=34)
        (tmp_path / "packed" / split).mkdir(parents=True)
        np.save(tmp_path / "packed" / split / "images.npy", pack.images)
        np.save(tmp_path / "packed" / split / "labels.npy", pack.labels)
    (tmp_path / "packed" / "classes.json").write_text('["red", "green", "blue"]', encoding="utf-8")
    return tmp_path


def test_the_train_stage_runs_in_two_processes_and_writes_once(stage_folder):
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", *STAGE_ARGUMENTS],
        cwd=stage_folder,
        env=_environment(QUINTET_PROCESSES="2"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notes = [] if computes_bf16(torch.device("cpu")) else ["cnn: no instr"]  # once, not once a process
    assert [line[:13] for line in done.stdout.splitlines()] == [*notes, "cnn epoch 1/2", "cnn epoch 2/2"]
    _, card = load_model(stage_folder / "models" / "cnn.safetensors")
    assert card.class_names == ["red", "green", "blue"]
    header, *rows = (stage_folder / "metrics" / "history.csv").read_text(encoding="utf-8").splitlines()
    assert header == ",".join(COLUMNS)
    assert [row.split(",")[:2] for row in rows] == [["1", "1"], ["1", "2"]]
    left = [path.name for path in (stage_folder / "models").iterdir() if path.suffix != ".lock"]
    assert left == ["cnn.safetensors"]


def test_a_number_of_processes_that_is_none_is_one_line_and_exit_code_2(stage_folder, monkeypatch, capsys):
    monkeypatch.chdir(stage_folder)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("QUINTET_PROCESSES", "many")
    monkeypatch.setattr(sys, "argv", ["train", *STAGE_ARGUMENTS])
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(train.main)
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "",
        "error: QUINTET_PROCESSES: expected a number of processes, or gpu for one a GPU; found 'many'\n",
    )
    assert not (stage_folder / "models").exists()
