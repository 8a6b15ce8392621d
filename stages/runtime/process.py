"""A stage's main in, a finished process out: a user's mistake is one line and exit code 2; the time taken is noted.

A stage that is told to stop (SIGTERM, Ctrl-C), or whose `dvc repro` was killed, ends at once and says so on one line.
"""

import csv
import errno
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

from stages.runtime.errors import UserError

TIMINGS = Path("data/timings.csv")  # ignored by git and DVC: a time in a tracked file would never be the same twice
RUNNER = "QUINTET_RUNNER"  # the process id of what runs several dvc side by side
LOOK_S = 0.5
TASKS_PER_WORKER = 8  # that are handed out at a time
REMEDIES = {  # of what only the user can mend
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give permission"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY), "move away what stands in its place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "look after the disk"),
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free memory and processes"),
    **dict.fromkeys((errno.EBUSY, errno.ETXTBSY), "end what uses it"),
    errno.ENAMETOOLONG: "shorten the path",
    errno.ELOOP: "mend the links on the way",
}

Task = TypeVar("Task")
Result = TypeVar("Result")


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the process was."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main, and note its time."""
    started = time.perf_counter()
    signal.signal(signal.SIGTERM, _raise_terminated)
    if "DVC_STAGE" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    exit_cleanly(main)
    with suppress(OSError):  # the outputs are there, whether or not the time can be noted
        note_time(time.perf_counter() - started)


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run main; a full or forbidden disk, or a signal, ends the process with a line, as do mistakes of the user."""
    try:
        main()
    except UserError as error:
        _exit_with(2, *(f"error: {problem}" for problem in error.args))
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        _exit_with(2, f"error: {what}; {REMEDIES[error.errno]}, and run again")
    except KeyboardInterrupt as error:
        sign = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        _exit_with(128 + sign, f"stopped by {sign.name}; run again to go on")


def _exit_with(code: int, *messages: str) -> None:
    for message in messages:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _raise_terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends even a process that is stuck
    raise Terminated


def end_with_parent(sign: int = signal.SIGTERM) -> None:
    """Send a signal to this process as soon as its parent, or whoever runs the stage, is no more.

    A `dvc` that is killed takes neither its shell nor the shell's children with it.
    """
    ancestors = psutil.Process().parents()
    # a stage has DVC_STAGE from dvc, which has none itself
    dvc = next((each for each in ancestors if "DVC_STAGE" not in _ask(each.environ, {})), None)
    watched = [each.pid for each in (*ancestors[:1], dvc) if each]
    if "DVC_STAGE" in os.environ and dvc and dvc.pid == 1 and not any("dvc" in word for word in _ask(dvc.cmdline, [])):
        watched.append(0)  # dvc ended before we looked, and init took us over
    if RUNNER in os.environ:
        watched.append(int(os.environ[RUNNER]))
    born = {pid: _born(pid) for pid in watched}

    def watch() -> None:
        while all(when is not None and _born(pid) == when for pid, when in born.items()):
            time.sleep(LOOK_S)
        os.kill(os.getpid(), sign)

    threading.Thread(target=watch, daemon=True).start()


def _born(pid: int) -> float | None:
    """Return when a process began, which tells it from a later one of the same number; None if it is no more."""
    if pid == 0:
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # another user's, but there
        return 0.0


def _ask(question: Callable[[], Any], otherwise: Any) -> Any:
    """Ask a process about itself, which may be another user's, or gone."""
    try:
        return question()
    except psutil.Error:
        return otherwise


@contextmanager
def open_pool(n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Open a pool of processes that end with this one; an error or a signal here takes back what has not begun.

    Raises:
        UserError: the system has no room for the semaphores that the processes share.
    """
    try:
        opened = ProcessPoolExecutor(n_workers, initializer=_start_worker)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        what = f"{error.strerror}, for the semaphores of {n_workers} worker processes"
        raise UserError(f"/dev/shm: {what}; make room there, or mount it, and run again") from None
    except (NotImplementedError, ImportError) as error:
        raise UserError(f"this Python has no semaphores ({error}); mount /dev/shm, or install another") from None
    others = set(multiprocessing.active_children())
    with opened as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:  # of a pool that could not start them all
                worker.kill()
                worker.join()
            raise


def _start_worker() -> None:
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)  # that is for the parent to answer
    end_with_parent(signal.SIGKILL)


def spread(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Apply a function to tasks on all cores; the results come in the tasks' order.

    Tasks are taken up as results are taken away, so that memory holds a few for each core, however many there are.

    Raises:
        UserError: a worker was killed; and whatever the function raises.
    """
    n_workers = count_cores()
    waiting: deque[Future[Result]] = deque()
    try:
        with open_pool(n_workers) as pool:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) >= TASKS_PER_WORKER * n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely for want of memory; free some, and run again"
        ) from None


def count_cores() -> int:
    """Return how many cores this process may use: on a shared machine fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def note_time(duration_s: float) -> None:
    """Append a line to data/timings.csv: when, what, seconds after the imports, and peak memory in MiB."""
    if not TIMINGS.parent.is_dir() or os.environ.get("RANK", "0") != "0":
        return
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in a MiB
    peaks = [resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    is_new = not TIMINGS.exists()
    with TIMINGS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["finished", "command", "duration_s", "peak_memory_mib", "peak_memory_of_a_child_mib"])
        command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:2]])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        writer.writerow([now, command, f"{duration_s:.1f}", *(f"{peak:.0f}" for peak in peaks)])
