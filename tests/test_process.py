"""How a stage ends: one line and an exit code for mistakes, full disks and signals, and no process is left behind."""

import csv
import errno
import io
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
from stages.runtime.files import unfinished, write_text
from stages.runtime.process import exit_cleanly, is_alive, note_time
from stages.runtime.workers import TASKS_PER_WORKER, count_cores, open_pool, spread
from tests.repository import ROOT

STAGE = """
import signal, sys, time
from stages.runtime import process

def main():
    if sys.argv[2:]:  # as what waits for a GPU
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("running", flush=True)
    time.sleep(float(sys.argv[1]))

process.GRACE_S = 0.5
process.run_stage(main)
"""
POOL = """
import os, sys, time
from stages.runtime.process import run_stage
from stages.runtime.workers import open_pool

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
command = " ".join([sys.executable, *sys.argv[1:]])
subprocess.call(f"{command}; echo ended with $?", shell=True, env={**os.environ, "DVC_STAGE": "train"})
"""
FAILING = """
import atexit, time
from stages.runtime.errors import UserError
from stages.runtime.process import run_stage

def main():
    atexit.register(time.sleep, 60)  # as one of several processes waits there for the others
    raise {error}

run_stage(main)
"""


def _raise(error: BaseException) -> None:
    raise error


def _ending(error: BaseException, capsys) -> tuple[int, str]:
    """Return the exit code and the output of a stage that ends with this error."""
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: _raise(error))
    return ended.value.code, capsys.readouterr().err


def test_each_mistake_of_the_user_is_a_line_and_the_exit_code_2(capsys):
    assert _ending(UserError("seed: missing\n key", "x: 3"), capsys) == (2, "error: seed: missing key\nerror: x: 3\n")


def test_names_that_the_locale_cannot_write_are_escaped_and_do_not_end_a_stage(tmp_path):
    code = "from stages.runtime.process import exit_cleanly; exit_cleanly(lambda: print('Müller'))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "M\\xfcller\n"


def test_a_standard_stream_that_is_closed_is_an_empty_one(monkeypatch):
    read = []
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    exit_cleanly(lambda: print(read.append(sys.stdin.buffer.read())))
    assert read == [b""]


def test_a_full_disk_is_a_line_that_names_the_file_which_stays_as_it_was(tmp_path, capsys):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    unfinished(path).symlink_to("/dev/full")
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: write_text(path, "new"))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: No space left on device; ")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("table.csv", "old")]


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Return a function that starts a script in its own process group; all its processes end with the test."""
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


def _all_end(processes: list[psutil.Process], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while any(map(is_alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


def _workers_of(stage: subprocess.Popen, n_lines: int) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in {int(stage.stdout.readline()) for _ in range(n_lines)}]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_a_stage_that_is_told_to_stop_ends_with_one_line(start, sign):
    stage = start(STAGE, 60)
    assert stage.stdout.readline() == "running\n"
    stage.send_signal(sign)
    assert stage.communicate(timeout=10)[1] == f"stopped by {sign.name}; run the same command again to resume\n"
    assert stage.returncode == 128 + sign


@pytest.mark.parametrize(("sign", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)])
def test_a_stage_with_workers_ends_with_one_line_and_all_of_them(start, sign, to_all):
    stage = start(POOL, 0.05)
    workers = _workers_of(stage, 6)
    (os.killpg if to_all else os.kill)(stage.pid, sign)
    assert stage.communicate(timeout=20)[1] == f"stopped by {sign.name}; run the same command again to resume\n"
    assert stage.returncode == 128 + sign
    assert _all_end(workers)


def test_workers_end_when_their_parent_is_killed(start):
    stage = start(POOL, 60)
    workers = _workers_of(stage, 2)
    stage.kill()
    assert _all_end(workers)


@pytest.mark.parametrize("is_stuck", [False, True])
def test_a_stage_ends_when_the_dvc_that_runs_it_is_killed(start, tmp_path, is_stuck):
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    dvc = start(DVC, "stage.py", 60, *["stuck"] * is_stuck)
    assert dvc.stdout.readline() == "running\n"
    shell_and_stage = psutil.Process(dvc.pid).children(recursive=True)
    assert len(shell_and_stage) == 2
    dvc.kill()
    assert _all_end(shell_and_stage)
    assert is_stuck or dvc.communicate()[1] == "stopped by SIGTERM; run the same command again to resume\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [('UserError("no")', 2, "error: no"), ('RuntimeError("no")', 1, "RuntimeError: no")],
    ids=["of the user", "of ours"],
)
def test_one_of_several_processes_that_fails_says_why_and_waits_for_none(start, error, code, said):
    stage = start(FAILING.format(error=error), WORLD_SIZE="2")
    assert stage.communicate(timeout=20)[1].splitlines()[-1] == said
    assert stage.returncode == code


def test_a_stage_runs_on_while_its_dvc_is_there(start, tmp_path):
    (tmp_path / "stage.py").write_text(STAGE, encoding="utf-8")
    assert start(DVC, "stage.py", 1.2).communicate(timeout=20) == ("running\nended with 0\n", "")


def test_results_come_in_the_tasks_order_and_few_tasks_are_taken_up_ahead():
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for taken in range(1000):
            yield -taken

    results = spread(abs, tasks())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert taken <= TASKS_PER_WORKER * count_cores() + 3
    assert list(results) == list(range(3, 1000))


def test_without_shared_memory_for_locks_one_process_does_the_work(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSYS, "Function not implemented")  # as in containers without /dev/shm

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    assert list(spread(abs, [-1, -2])) == [1, 2]


def test_cores_are_those_that_the_container_may_use(monkeypatch):
    is_there = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/sys/fs/cgroup/cpu.max" or is_there(path))
    quota = io.StringIO("100000 100000\n")  # microseconds of 100,000: as of `docker run --cpus 1`
    monkeypatch.setattr("joblib.externals.loky.backend.context.open", lambda path: quota, raising=False)
    assert count_cores() == 1


def _fail(how: str) -> None:
    if how == "asleep":
        time.sleep(100)
    os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else _raise(ZeroDivisionError(how))


def test_a_killed_worker_is_a_users_mistake_and_an_error_in_one_is_raised():
    started = time.monotonic()
    with pytest.raises(UserError, match="memory"):
        list(spread(_fail, ["killed", "asleep"]))
    assert time.monotonic() - started < 50  # it does not wait for the other one
    with pytest.raises(ZeroDivisionError, match="raised"):
        list(spread(_fail, ["raised"] * 100))


def test_an_error_takes_back_the_tasks_that_have_not_begun():
    waiting = []

    def fail() -> None:
        with open_pool(1) as pool:
            waiting.extend(pool.submit(time.sleep, 0.05) for _ in range(50))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sum(future.cancelled() for future in waiting) > 40


def test_times_are_noted_where_there_is_a_folder_for_them(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "cnn", "data/packed"])
    note_time(1.0)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    note_time(1.26)
    note_time(2)
    with (tmp_path / "data/timings.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["finished", "command", "duration_s"]
    assert [row[1:3] for row in rows] == [["train cnn", "1.3"], ["train cnn", "2.0"]]


def test_a_program_whose_reader_has_gone_ends_without_a_message():
    program = "from stages.runtime.process import exit_cleanly; exit_cleanly(lambda: print('line\\n' * {}))"
    for n_lines in (1, 100_000):  # all in the buffer until the end; more than a pipe holds
        with subprocess.Popen(
            [sys.executable, "-c", program.format(n_lines)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 128 + signal.SIGPIPE
