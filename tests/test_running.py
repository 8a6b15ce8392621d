"""How a stage ends: one line and an exit code for a user's mistake, a full disk or a signal, and nobody left behind."""

import csv
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stages.runtime.errors import UserError
from stages.runtime.process import Terminated, exit_cleanly, note_time, open_pool
from tests.imports import ROOT

STAGE = """
import sys, time
from stages.runtime.process import run_stage

def main():
    print("running", flush=True)
    time.sleep(float(sys.argv[1]))

run_stage(main)
"""
POOL = """
import os, sys, time
from stages.runtime.process import open_pool, run_stage

def work(duration_s):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: two workers write
    time.sleep(duration_s)

def main():
    with open_pool(2) as pool:
        for _ in pool.map(work, [float(sys.argv[1])] * 1000):
            pass

if __name__ == "__main__":
    run_stage(main)
"""
DVC = """
import os, subprocess, sys
subprocess.call(f"{sys.executable} {sys.argv[1]} 60; true", shell=True, env={**os.environ, "DVC_STAGE": "train"})
"""


def _raise(error: BaseException) -> None:
    raise error


def _ending(error: BaseException, capsys) -> tuple[int, str]:
    """Return the exit code and what is said when a stage ends with this error."""
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: _raise(error))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return ended.value.code, said.err.rstrip("\n")


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    assert _ending(UserError("params.yaml: seed: missing key"), capsys) == (2, "error: params.yaml: seed: missing key")
    assert _ending(UserError("two\n  lines"), capsys) == (2, "error: two lines")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "; make room, and run again"),
        (errno.EDQUOT, "; make room, and run again"),
        (errno.EROFS, "; give permission, and run again"),
        (errno.EACCES, "; give permission, and run again"),
        (errno.EISDIR, "; move away what stands in its place, and run again"),
        (errno.EMFILE, "; raise the limit of open files (ulimit -n), and run again"),
    ],
)
def test_what_the_machine_refuses_is_one_line_that_names_the_file_and_exit_code_2(number, remedy, capsys):
    what = os.strerror(number)
    assert _ending(OSError(number, what, "data/x.csv"), capsys) == (2, f"error: data/x.csv: {what}{remedy}")
    assert _ending(OSError(number, what), capsys) == (2, f"error: {what}{remedy}")


def test_a_signal_is_one_line_and_its_exit_code(capsys):
    assert _ending(KeyboardInterrupt(), capsys) == (130, "stopped by SIGINT; run again to go on")
    assert _ending(Terminated(), capsys) == (143, "stopped by SIGTERM; run again to go on")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no"), ValueError("no"), ZeroDivisionError()])
def test_our_own_mistakes_keep_their_traceback(error):
    with pytest.raises(type(error)):
        exit_cleanly(lambda: _raise(error))


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Return a function that starts a script in a process group of its own; nothing of it outlives the test."""
    started = []

    def start_script(script: str, *arguments: object, **environment: str) -> subprocess.Popen:
        path = tmp_path / f"script_{len(started)}.py"
        path.write_text(script, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
        process = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_script
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _all_end(pids: list[int], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while any(map(_is_alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_a_stage_that_is_told_to_stop_ends_at_once_with_one_line(start, sign):
    stage = start(STAGE, 60)
    assert stage.stdout.readline() == "running\n"
    stage.send_signal(sign)
    out, err = stage.communicate(timeout=2)
    assert (stage.returncode, out, err) == (128 + sign, "", f"stopped by {sign.name}; run again to go on\n")


def test_a_stage_ends_with_what_runs_several_dvc_side_by_side(start):
    runner = subprocess.Popen(["sleep", "60"])
    stage = start(STAGE, 60, DVC_STAGE="train", QUINTET_RUNNER=str(runner.pid))
    assert stage.stdout.readline() == "running\n"
    runner.kill()
    runner.wait()
    _, err = stage.communicate(timeout=3)
    assert (stage.returncode, err) == (143, "stopped by SIGTERM; run again to go on\n")


def test_a_stage_that_ends_says_nothing_and_has_exit_code_0(start):
    stage = start(STAGE, 0, DVC_STAGE="train")
    assert (stage.communicate(timeout=10), stage.returncode) == (("running\n", ""), 0)


@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=lambda sign: sign.name)
def test_a_stage_with_workers_ends_soon_with_one_line_and_all_of_them(start, sign, to_all):
    stage = start(POOL, 0.05)
    workers = {int(stage.stdout.readline()) for _ in range(6)}
    assert len(workers) == 2
    (os.killpg if to_all else os.kill)(stage.pid, sign)
    _, err = stage.communicate(timeout=5)
    assert (stage.returncode, err) == (128 + sign, f"stopped by {sign.name}; run again to go on\n")
    assert _all_end([*workers], within_s=1)


def test_workers_end_when_their_parent_is_killed(start):
    stage = start(POOL, 60)
    workers = [int(stage.stdout.readline()) for _ in range(2)]
    assert all(map(_is_alive, workers))
    stage.kill()
    assert _all_end(workers, within_s=3)


def test_a_stage_ends_when_the_dvc_that_runs_it_is_killed(start, tmp_path):
    stage = tmp_path / "stage.py"
    stage.write_text(STAGE, encoding="utf-8")
    dvc = start(DVC, stage)
    assert dvc.stdout.readline() == "running\n"
    everyone = [child.pid for child in psutil.Process(dvc.pid).children(recursive=True)]
    assert len(everyone) == 2  # the shell and the stage
    dvc.kill()
    assert _all_end(everyone, within_s=3)
    assert dvc.communicate()[1] == "stopped by SIGTERM; run again to go on\n"


def test_a_stage_runs_on_while_its_dvc_is_there(start, tmp_path):
    stage = tmp_path / "stage.py"
    stage.write_text(STAGE, encoding="utf-8")
    dvc = start(DVC.replace(" 60;", " 1.2;").replace("; true", "; echo ended with $?"), stage)
    assert dvc.communicate(timeout=10) == ("running\nended with 0\n", "")


def test_a_pool_gives_its_results_and_an_error_takes_back_what_has_not_begun():
    with open_pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]

    def fail() -> None:
        with open_pool(1) as pool:
            waiting.extend(pool.submit(time.sleep, 0.05) for _ in range(100))
            raise UserError("no")

    waiting: list = []
    started = time.monotonic()
    with pytest.raises(UserError, match="no"):
        fail()
    assert time.monotonic() - started < 2
    assert sum(future.cancelled() for future in waiting) > 90


def test_times_are_noted_where_there_is_a_folder_for_them(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "cnn", "data/packed"])
    note_time(1.0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    note_time(1.26)
    note_time(2)
    with (tmp_path / "data" / "timings.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["finished", "command", "duration_s"]
    assert [row[1:3] for row in rows] == [["train cnn", "1.3"], ["train cnn", "2.0"]]
    assert all(float(peak) > 1 for row in rows for peak in row[3:4])
