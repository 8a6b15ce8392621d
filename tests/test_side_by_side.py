"""Several trainings at once, in a small DVC repository of the real one's shape, whose trainings only copy files."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from stages.shared import side_by_side

from stages.runtime.process import count_cores
from tests.imports import ROOT, imported_files

PIPELINE = """
stages:
  pack:
    cmd: python -m stages.pack source.txt data/packed.txt
    deps: [source.txt]
    outs: [data/packed.txt]
  train:
    matrix: {model: [a, b]}
    cmd: python -m stages.train data/packed.txt data/${item.model}.txt
    deps: [data/packed.txt]
    outs: ["data/${item.model}.txt"]
  finetune:
    cmd: python -m stages.train data/packed.txt data/weights/backbone.txt data/tuned.txt
    deps: [data/packed.txt, data/weights/backbone.txt]
    outs: [data/tuned.txt]
  evaluate:
    cmd: python -m stages.evaluate data/a.txt data/b.txt data/tuned.txt scores.txt
    deps: [data/a.txt, data/b.txt, data/tuned.txt]
    outs: [scores.txt: {cache: false}]
"""
INPUT_PIPELINE = """
stages:
  draw:
    wdir: ../..
    cmd: python -m stages.draw data/weights/images.txt
    outs: [data/weights/images.txt]
  pretrain:
    wdir: ../..
    cmd: python -m stages.pretrain data/weights/images.txt data/weights/backbone.txt
    deps: [data/weights/images.txt]
    outs: [data/weights/backbone.txt]
"""
STAGE = """
import json, os, sys, time
from pathlib import Path
*inputs, output = map(Path, sys.argv[1:])
name = os.environ["DVC_STAGE"].split(":")[-1]
note = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
note |= {"pid": os.getpid(), "start": time.time()}
notes = Path(os.environ["NOTES"])
(notes / f"{name}.began").write_text(str(os.getpid()))
print("begin", output)
meeting = os.environ.get("MEET", "").split()
if name in meeting:
    while not all((notes / f"{other}.began").exists() for other in meeting):
        time.sleep(0.02)
        if time.time() > note["start"] + 30:
            sys.exit(f"{meeting} were not all under way within 30 s")
if name in os.environ.get("HANG", "").split():
    time.sleep(60)
if name == os.environ.get("FAIL"):
    sys.exit("no luck today")
output.write_text("".join(file.read_text() for file in inputs) + name)
(notes / f"{name}.json").write_text(json.dumps(note | {"end": time.time()}))
"""
PRETRAIN = "data/weights/dvc.yaml:pretrain"
TRAININGS = {"train@a", "train@b", "pretrain", "finetune"}
FOREIGN = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "QUINTET_DEVICE")  # of the machine that the tests run on
ALL = {"draw", "pack", "evaluate"} | TRAININGS


class Project:
    """A small git and DVC repository; `run` and `start` run commands in it, and note what the stages saw."""

    def __init__(self, folder: Path):
        self.folder, self.notes = folder, folder / ".dvc/tmp/notes"
        for file in imported_files(Path("stages/runtime/side_by_side.py")):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, folder / file)
        for name in ("pack", "train", "evaluate", "draw", "pretrain"):
            (folder / "stages" / f"{name}.py").write_text(STAGE)
        for name, text in (
            ("dvc.yaml", PIPELINE),
            ("data/weights/dvc.yaml", INPUT_PIPELINE),
            (".dvc/config", "[core]\n    analytics = false\n"),
            (".dvc/.gitignore", "/tmp\n/cache\n"),
            ("source.txt", "source"),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Start `python -m` with this command, in a process group of its own, as a shell does."""
        shutil.rmtree(self.notes, ignore_errors=True)
        self.notes.mkdir(parents=True)
        inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=inherited | {"NOTES": str(self.notes), "PYTHONPATH": "", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **environment: str) -> SimpleNamespace:
        """Run a command to its end; return its code, out, err, and {stage that ran: what it saw}."""
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=120)
        ran = {path.stem: json.loads(path.read_text()) for path in self.notes.glob("*.json")}
        return SimpleNamespace(code=process.returncode, out=out, err=err, ran=ran)

    def locks(self) -> list[dict]:
        return [yaml.safe_load((self.folder / path).read_text()) for path in ("dvc.lock", "data/weights/dvc.lock")]

    def ignored(self) -> set[str]:
        files = (self.folder / "data/.gitignore", self.folder / "data/weights/.gitignore")
        return {line for file in files for line in file.read_text().splitlines()}


def overlap(one: dict, other: dict) -> bool:
    return one["start"] < other["end"] and other["start"] < one["end"]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which `dvc repro` has run."""
    project = Project(tmp_path_factory.mktemp("serial"))
    assert project.run("dvc", "repro").code == 0
    return project


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A project in which two jobs at a time have run; the first trainings end only if they see each other."""
    project = Project(tmp_path_factory.mktemp("two"))
    # these two are first: pretrain since another waits for it, then the pipeline's order
    seen = {"CUDA_VISIBLE_DEVICES": "4, GPU-7", "MEET": "pretrain train@a"}
    first = project.run("stages.runtime.side_by_side", "2", **seen)
    assert first.code == 0, first.out + first.err
    return SimpleNamespace(project=project, first=first, second=project.run("stages.runtime.side_by_side", "2", **seen))


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A project in which one job at a time has run, and one of the trainings has failed."""
    project = Project(tmp_path_factory.mktemp("failed"))
    mine = {"OMP_NUM_THREADS": "7", "CUDA_VISIBLE_DEVICES": "0", "QUINTET_DEVICE": "cpu"}
    return SimpleNamespace(
        project=project, first=project.run("stages.runtime.side_by_side", "1", FAIL="pretrain", **mine)
    )


def test_the_results_and_the_locks_are_those_of_a_plain_repro(serial, two):
    assert set(two.first.ran) == ALL
    assert two.project.locks() == serial.locks()
    assert two.project.ignored() == serial.ignored()
    assert (two.project.folder / "scores.txt").read_bytes() == (serial.folder / "scores.txt").read_bytes()


def test_two_trainings_run_at_once(two):
    assert overlap(two.first.ran["pretrain"], two.first.ran["train@a"])


def test_what_others_wait_for_is_trained_first(two):
    ran = two.first.ran
    assert ran["train@b"]["start"] > min(ran["pretrain"]["end"], ran["train@a"]["end"])


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 9])
def test_as_many_at_once_as_asked_and_each_gpu_has_its_share(monkeypatch, n_jobs: int):
    gpus, most = [], []

    async def run_nothing(arguments, environment, tell):
        gpus.append(environment["CUDA_VISIBLE_DEVICES"])
        most.append(len(gpus))
        assert abs(gpus.count("4") - gpus.count("7")) <= 1
        await asyncio.sleep(0.01)
        gpus.remove(environment["CUDA_VISIBLE_DEVICES"])
        return 0

    monkeypatch.setattr(side_by_side, "run_dvc", run_nothing)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.delenv("QUINTET_DEVICE", raising=False)
    endings = asyncio.run(side_by_side.train_all({name: set() for name in "abcde"}, n_jobs, {}))
    assert [(name, ending.code) for name, ending in endings.items()] == [(name, 0) for name in "abcde"]
    assert max(most) == min(n_jobs, 5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
def test_the_real_pipeline_trains_five_models_and_packs_first(monkeypatch):
    monkeypatch.chdir(ROOT)
    first, needs = side_by_side.plan_trainings()
    assert {"split", "pack"} <= set(first)
    assert {"train@cnn", "train@vgg16", "train@resnet50", "finetune@vgg19", "finetune@resnet50"} <= set(needs)
    # with weights that are only read, nothing is pretrained
    assert needs["finetune@vgg19"] <= {"data/weights/drawn/dvc.yaml:pretrain@vgg19"}


def test_a_training_waits_for_what_it_builds_on(two):
    ran = two.first.ran
    assert ran["finetune"]["start"] > ran["pretrain"]["end"]
    assert min(ran[name]["start"] for name in TRAININGS) > max(ran[name]["end"] for name in ("draw", "pack"))


def test_a_second_run_runs_nothing(two):
    assert (two.second.code, two.second.ran) == (0, {})
    assert f"Stage '{PRETRAIN}' didn't change, skipping" in two.second.out


def test_every_line_of_a_job_names_it_in_a_column_of_one_width(two):
    prefixes = (f"[{name}]".ljust(len(PRETRAIN) + 2) for name in ("train@a", "train@b", "finetune", PRETRAIN))
    outputs = ("data/a.txt", "data/b.txt", "data/tuned.txt", "data/weights/backbone.txt")
    lines = two.first.out.splitlines()
    for prefix, output in zip(prefixes, outputs, strict=True):
        assert f"{prefix} begin {output}" in lines
    assert "begin scores.txt" in lines
    assert two.first.err == ""


def test_every_stage_has_its_share_of_the_cores(two):
    threads = {note["OMP_NUM_THREADS"] for note in two.first.ran.values()}
    assert threads == {str(max(1, count_cores() // 2))}


def test_trainings_at_once_have_a_gpu_each(two):
    ran = two.first.ran
    assert {ran["pretrain"]["CUDA_VISIBLE_DEVICES"], ran["train@a"]["CUDA_VISIBLE_DEVICES"]} == {"4", "GPU-7"}
    assert all(ran[name]["CUDA_VISIBLE_DEVICES"] in ("4", "GPU-7") for name in TRAININGS)
    assert ran["evaluate"]["CUDA_VISIBLE_DEVICES"] == "4, GPU-7"


def test_one_job_at_a_time_overlaps_nothing(failed):
    assert not overlap(failed.first.ran["train@a"], failed.first.ran["train@b"])


def test_threads_and_device_that_the_user_chose_are_kept(failed):
    assert {note["OMP_NUM_THREADS"] for note in failed.first.ran.values()} == {"7"}
    assert {note["CUDA_VISIBLE_DEVICES"] for note in failed.first.ran.values()} == {"0"}


def test_a_failed_training_stops_those_that_build_on_it_and_no_other(failed):
    assert set(failed.first.ran) == {"draw", "pack", "train@a", "train@b"}
    assert set(failed.project.locks()[0]["stages"]) == {"pack", "train@a", "train@b"}


def test_a_failed_training_is_named_with_its_exit_code_and_last_lines(failed):
    assert failed.first.code == 255  # dvc's
    lines = failed.first.err.splitlines()
    assert lines[0].startswith("2 of 4 trainings succeeded")
    assert lines[1] == f"{PRETRAIN}: exit code 255 after"
    assert "    no luck today" in lines[2:-1]
    assert len(lines) <= 1 + 1 + 15 + 1
    assert lines[-1] == f"finetune: not started, since it builds on {PRETRAIN}"


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("stages", "sign"), [("train@a pretrain", signal.SIGTERM), ("draw", signal.SIGINT)])
def test_a_signal_ends_all_jobs_with_one_line_and_leaves_no_process(tmp_path: Path, stages: str, sign: signal.Signals):
    project = Project(tmp_path)
    process = project.start("stages.runtime.side_by_side", "2", HANG=stages)
    began = [project.notes / f"{name}.began" for name in stages.split()]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in began) and time.monotonic() < deadline:
        time.sleep(0.05)
    stage_pids = [int(path.read_text()) for path in began]
    jobs = psutil.Process(process.pid).children(recursive=True)
    assert set(stage_pids) <= {job.pid for job in jobs}
    os.killpg(process.pid, sign)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + sign
    assert err == f"stopped by {sign.name}; run again to go on\n"
    assert not [job for job in jobs if is_alive(job.pid)]


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(monkeypatch):
    monkeypatch.setattr(side_by_side, "GRACE_S", 0.3)
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as stubborn:
        stubborn.stdout.readline()
        asyncio.run(side_by_side.stop_group(stubborn.pid))
    assert stubborn.returncode == -signal.SIGKILL


@pytest.mark.parametrize("n_jobs", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_jobs_is_said_and_exit_code_2(n_jobs: str):
    command = [sys.executable, "-m", "stages.runtime.side_by_side", "--", n_jobs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.search(rf"1 or more, found '{n_jobs}'$", done.stderr)


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch):
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert side_by_side.find_gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho '  MIG 1g (UUID: MIG-2)'\necho 'GPU 1: B (UUID: GPU-3)'\n"
    )
    program.chmod(0o755)
    assert side_by_side.find_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert side_by_side.find_gpus() == []
