"""A stage's main in, a finished process out: a user's mistake is one line and exit code 2; the time taken is noted."""

import csv
import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from stages.shared.errors import UserError

TIMINGS = Path("data/timings.csv")  # ignored by git and DVC: a time in a tracked file would never be the same twice


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's main, and note its time."""
    started = time.perf_counter()
    exit_cleanly(main)
    note_time(time.perf_counter() - started)


def exit_cleanly(main: Callable[[], None]) -> None:
    """Run main; a UserError ends the process with its message on one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def count_cores() -> int:
    """Return how many cores this process may use: on a shared machine fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def note_time(duration_s: float) -> None:
    """Append a line to data/timings.csv: when, what, seconds after the imports, and peak memory in MiB."""
    if not TIMINGS.parent.is_dir():
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
