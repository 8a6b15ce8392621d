"""How a stage's process begins and ends: mistakes of the user and signals are one line each, and the time is noted."""

import csv
import errno
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from stages.runtime.errors import UserError

TIMINGS = Path("data/timings.csv")  # ignored by git and DVC: a time in a tracked file would never be the same twice
LOOK_S = 0.5
GRACE_S = 30  # from a signal to SIGKILL
REMEDIES = {  # of what only the user can mend
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give permission"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move away what stands in its place"),
    errno.ENAMETOOLONG: "shorten it",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the process was."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main, and note its time."""
    started = time.perf_counter()
    signal.signal(signal.SIGTERM, _raise_terminated)
    if "DVC_STAGE" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)
    try:
        exit_cleanly(main)
    except BaseException as error:
        if "WORLD_SIZE" in os.environ:
            _leave(error)
        raise
    with suppress(OSError):  # the outputs are there, whether or not the time can be noted
        note_time(time.perf_counter() - started)


def _leave(error: BaseException) -> None:
    """End without all that is done at exit: one of several processes would wait there for the others, for ever."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.code if isinstance(error, SystemExit) else 1)


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run main; a full or forbidden disk, too small a GPU, a signal and mistakes of the user end it with a line."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names may have letters that the locale's encoding lacks
    try:
        main()
    except UserError as error:
        _exit_with(2, *(f"error: {problem}" for problem in error.args))
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        _exit_with(2, f"error: {what}; {REMEDIES[error.errno]}, and run again")
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if not torch or not isinstance(error, torch.OutOfMemoryError):
            raise
        what = ". ".join(str(error).split(". ")[:3])  # how much was wanted, and what there is; advice follows
        _exit_with(2, f"error: {what}; lower batch_size or image_size_px, or stop what else runs there")
    except KeyboardInterrupt as error:
        sign = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        _exit_with(128 + sign, f"stopped by {sign.name}; run again to go on")


def _open_closed_streams() -> None:
    """Give a process that was started without some standard stream, as by `<&-`, one that is empty."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _exit_with(code: int, *messages: str) -> None:
    for message in messages:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _raise_terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends even a process that is stuck
    raise Terminated


def end_with_parent(sign: int) -> None:
    """Send a signal to this process as soon as its parent, or the `dvc` that runs the stage, is no more.

    A `dvc` that is killed takes neither its shell nor the shell's child, which is this process, with it. What waits for
    a GPU answers no signal: it is killed a while later.
    """
    watched = []
    for parent in psutil.Process().parents():
        watched.append(parent)
        if not _is_in_stage(parent):  # a stage has DVC_STAGE from dvc, which has none itself
            break

    def watch() -> None:
        while all(map(is_alive, watched)):
            time.sleep(LOOK_S)
        os.kill(os.getpid(), sign)
        time.sleep(GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _is_in_stage(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "DVC_STAGE" in process.environ()
    return False


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs; one that has ended, and that nobody has asked about yet, does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


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
