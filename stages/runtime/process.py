"""How the process of a stage starts and ends: one line for each user mistake or signal, and a record of the time."""

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

TIMINGS = Path("data/timings.csv")  # git and DVC ignore it: times differ in every run
LOOK_S = 0.5
GRACE_S = 30  # time from a signal to SIGKILL
REMEDIES = {  # errors that only the user can correct
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some disk space"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "give write permission"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move away the file or folder that is in its place"),
    errno.ENAMETOOLONG: "shorten the name",
}


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, raised where the process was interrupted."""


def run_stage(main: Callable[[], None]) -> None:
    """Run the main function of a stage, and record its time."""
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
    with suppress(OSError):  # the outputs count, even if the time cannot be recorded
        note_time(time.perf_counter() - started)


def _leave(error: BaseException) -> None:
    """End without exit handlers: there, one of several processes would wait forever for the others."""
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.code if isinstance(error, SystemExit) else 1)


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run main; user mistakes, signals, a full or read-only disk and a full GPU end it with one line.

    If the reader of its output has gone, it ends without a message.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # the locale's encoding may lack some letters
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left in the buffer
        sys.exit(128 + signal.SIGPIPE)
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
        what = ". ".join(str(error).split(". ")[:3])  # sizes wanted and available, without the advice
        _exit_with(2, f"error: {what}; lower batch_size or image_size_px, or stop other programs on this device")
    except KeyboardInterrupt as error:
        sign = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        _exit_with(128 + sign, f"stopped by {sign.name}; run the same command again to resume")


def _open_closed_streams() -> None:
    """Open empty standard streams for a process that was started without them, as by `<&-`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _exit_with(code: int, *messages: str) -> None:
    for message in messages:
        print(" ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _raise_terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second SIGTERM ends even a stuck process
    raise Terminated


def end_with_parent(sign: int) -> None:
    """Send a signal to this process as soon as its parent, or the `dvc` that runs the stage, has ended.

    Killing `dvc` ends neither its shell nor this process, the shell's child. A process that waits for a GPU ignores
    signals, so it is killed after GRACE_S.
    """
    watched = []
    for parent in psutil.Process().parents():
        watched.append(parent)
        if not _is_in_stage(parent):  # dvc sets DVC_STAGE for a stage, but not for itself
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
    """Return whether a process runs; a zombie does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def note_time(duration_s: float) -> None:
    """Append a row to data/timings.csv: end, command, seconds after the imports, and peak memory in MiB."""
    if not TIMINGS.parent.is_dir() or os.environ.get("RANK", "0") != "0":
        return
    unit = 2**20 if sys.platform == "darwin" else 2**10  # units of ru_maxrss per MiB
    peaks = [resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    is_new = not TIMINGS.exists()
    with TIMINGS.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["finished", "command", "duration_s", "peak_memory_mib", "peak_memory_of_a_child_mib"])
        command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:2]])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        writer.writerow([now, command, f"{duration_s:.1f}", *(f"{peak:.0f}" for peak in peaks)])
