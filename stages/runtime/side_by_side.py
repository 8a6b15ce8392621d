"""A number of jobs in, what `dvc repro` makes out, with as many trainings at once: DVC itself runs one after another.

    python -m stages.runtime.side_by_side N

Three steps: a plain `dvc repro` of what the trainings read; for each training a `dvc repro` of it alone, N at once;
and a plain `dvc repro`, which finds the trainings done and runs the rest.
"""

import argparse
import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import networkx
import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro

from stages.runtime.errors import UserError
from stages.runtime.process import RUNNER, count_cores, exit_cleanly

TRAINING = re.compile(r"\bstages\.(train|pretrain)\b")
GRACE_S = 20  # from SIGTERM to SIGKILL: a checkpoint may be half written
LOOK_S = 0.1
LONGEST_LINE = 2**24  # bytes


class Ending(NamedTuple):
    """How a training ended: its exit code, or None if it was not started, and the end of its output."""

    code: int | None
    last_lines: deque[str]


def plan_trainings() -> tuple[list[str], dict[str, set[str]]]:
    """Return the stages that come before all training, and {training: the trainings that it builds on}.

    Raises:
        UserError: DVC cannot read the pipeline.
    """
    try:
        with Repo() as repo:
            graph = get_active_graph(repo.index.graph)
            stages = plan_repro(graph, repo.stage.collect("dvc.yaml"))
            above = {each.addressing: {one.addressing for one in networkx.descendants(graph, each)} for each in stages}
            trainings = [stage.addressing for stage in stages if TRAINING.search(str(stage.cmd))]
    except DvcException as error:
        raise UserError(f"DVC cannot read the pipeline: {error}; `dvc repro` says where") from None
    n_waiting = {name: sum(name in above[training] for training in trainings) for name in above}
    trainings.sort(key=lambda name: -n_waiting[name])  # first what others wait for: the end comes sooner
    first = [name for name in above if n_waiting[name] and name not in trainings]
    return first, {name: above[name].intersection(trainings) for name in trainings}


def find_gpus() -> list[str]:
    """Return the ids of the NVIDIA GPUs to share out: none where there is none, or where the user chose the device."""
    if os.environ.get("QUINTET_DEVICE"):
        return []
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
    return [str(i) for i in range(len(re.findall(r"^GPU \d", listed, re.MULTILINE)))]


async def run_dvc(arguments: list[str], environment: dict[str, str], tell: Callable[[str], None] | None = None) -> int:
    """Run dvc and return its exit code; `tell` takes its output by the line, which else goes where ours goes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dvc", *arguments),
        stdin=subprocess.DEVNULL if tell else None,
        stdout=subprocess.PIPE if tell else None,
        stderr=subprocess.STDOUT if tell else None,
        env=os.environ | environment | {RUNNER: str(os.getpid())},
        limit=LONGEST_LINE,
        start_new_session=True,  # dvc alone, when stopped, leaves its stage running: the whole group has to be told
    )
    try:
        if tell:
            async for line in process.stdout:
                tell(line.decode(errors="replace").rstrip())
        code = await process.wait()
    except BaseException:
        await stop_group(process.pid)
        raise
    return code if code >= 0 else 128 - code  # a signal, as a shell counts it


async def stop_group(group: int) -> None:
    """Send SIGTERM to a process group, and after GRACE_S SIGKILL to what is left of it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, sign)
        for _ in range(round(GRACE_S / LOOK_S)):
            if not is_alive(group):
                return
            await asyncio.sleep(LOOK_S)


def is_alive(group: int) -> bool:
    """Say whether any process of the group runs; a dead one may linger, in a container where nobody collects it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


async def train_all(needs: dict[str, set[str]], n_jobs: int, environment: dict[str, str]) -> dict[str, Ending]:
    """Run each training when those that it builds on have succeeded, n_jobs at once; a failure stops no other."""
    slots: asyncio.Queue[int] = asyncio.PriorityQueue()  # job slots; the lowest free one is next
    for slot in range(n_jobs):
        slots.put_nowait(slot)
    gpus = find_gpus()
    width = max(map(len, needs), default=0) + 2

    async def train(name: str) -> Ending:
        last_lines: deque[str] = deque(maxlen=15)

        def tell(line: str) -> None:
            last_lines.append(line)
            print(f"{f'[{name}]':<{width}} {line}".rstrip(), flush=True)

        for need in needs[name]:
            # not `await tasks[need]`: that hands a cancellation on, in the midst of the other's own stopping
            await asyncio.wait([tasks[need]])
        if any(tasks[need].result().code != 0 for need in needs[name]):
            return Ending(None, last_lines)
        slot = await slots.get()
        device = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
        code = await run_dvc(["--wait-for-lock", "repro", "--single-item", name], environment | device, tell)
        slots.put_nowait(slot)
        return Ending(code, last_lines)

    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(train(name)) for name in needs}
    return {name: task.result() for name, task in tasks.items()}


def describe_failures(endings: dict[str, Ending], needs: dict[str, set[str]]) -> str:
    """Say how many trainings succeeded, how each other one ended, and which were not started because of it."""
    n_good = sum(ending.code == 0 for ending in endings.values())
    lines = [f"{n_good} of {len(endings)} trainings succeeded; run again to go on with the rest"]
    for name, ending in endings.items():
        if ending.code:
            lines += [f"{name}: exit code {ending.code} after", *(f"    {line}" for line in ending.last_lines)]
            lines += [f"{each}: not started, since it builds on {name}" for each in needs if name in needs[each]]
    return "\n".join(lines)


async def reproduce(n_jobs: int, first: list[str], needs: dict[str, set[str]]) -> int:
    """Take the three steps; return the exit code of the first dvc that failed, or 0."""
    # every step has the same number of threads, since the bits of its results depend on it
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, count_cores() // n_jobs))
    environment = {"OMP_NUM_THREADS": threads}
    if first and (code := await run_dvc(["repro", *first], environment)):
        return code
    print(f"== {len(needs)} trainings, {n_jobs} at once, OMP_NUM_THREADS={threads}", flush=True)
    endings = await train_all(needs, n_jobs, environment)
    if code := next((ending.code for ending in endings.values() if ending.code), 0):
        print(describe_failures(endings, needs), file=sys.stderr)
        return code
    return await run_dvc(["repro"], environment)


async def reproduce_or_stop(*arguments) -> int:
    """Reproduce; the first signal to end stops all jobs, and the exit code says which it was, as a shell's does."""
    work = asyncio.create_task(reproduce(*arguments))
    received: list[signal.Signals] = []

    def stop(sign: signal.Signals) -> None:
        received.append(sign)
        if len(received) == 1:
            work.cancel()

    for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(sign) is not signal.SIG_IGN:  # nohup's wish
            asyncio.get_running_loop().add_signal_handler(sign, stop, sign)
    try:
        return await work
    except asyncio.CancelledError:
        print(f"stopped by {received[0].name}; run again to go on", file=sys.stderr)
        return 128 + received[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="As `dvc repro`, with several trainings at once.")
    parser.add_argument("n_jobs", metavar="N", help="how many trainings to run at once")
    given = parser.parse_args().n_jobs
    if not given.isdecimal() or int(given) < 1:
        parser.error(f"expected how many trainings to run at once, 1 or more, found {given!r}")
    sys.exit(asyncio.run(reproduce_or_stop(int(given), *plan_trainings())))


if __name__ == "__main__":
    exit_cleanly(main)
