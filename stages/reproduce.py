"""Run what `dvc repro` would run, but several stages at once; DVC itself runs one after another.

Each stage that is out of date runs in a dvc process, as soon as its dependencies exist, and so do short stages that can
only follow it. A process gets a share of the cores (OMP_NUM_THREADS) and, if there are GPUs, one of them. Without GPUs,
a training that takes longer than all others together runs last and alone, on all cores. The audit runs after it,
because it can reuse features that were computed on as many cores. After a failure no new stage starts.
"""

import argparse
import os
import subprocess
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from dvc.stage import Stage
from networkx import DiGraph, ancestors, descendants, topological_sort

from stages.runtime.errors import UserError
from stages.runtime.process import run_stage
from stages.runtime.workers import count_cores
from stages.settings.reading import read_params

MOMENT = 1.0
TARGET = "dvc.yaml"  # as for `dvc repro`: all of its stages, and the inputs that they need


def main() -> None:
    gpus = list_gpus()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # on two cores, two trainings at once (a core each) are faster than one after the other
    at_once = "number of stages at once; by default the number of GPUs, or 2 without GPUs"
    parser.add_argument("jobs", nargs="?", type=int, default=len(gpus) or 2, help=at_once)
    n_jobs = parser.parse_args().jobs
    if n_jobs < 1:
        parser.error(f"jobs: expected 1 or more, found {n_jobs}")
    runner = Runner(n_jobs, gpus)
    with ThreadPoolExecutor(n_jobs) as pool:
        try:
            run_all(Repo(_wait_for_lock=True), pool, runner)  # as `dvc --wait-for-lock` does
        except BaseException as error:
            if not isinstance(error, UserError):  # after a UserError, running stages finish
                runner.stop()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, DvcException):
                remedy = "; get the project with `git clone`, or run `git init` here" * isinstance(error, SCMError)
                raise UserError(f"dvc: {error}{remedy}") from None
            raise


def list_gpus() -> list[str]:
    """Return the ids of the available GPUs."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu]
    with suppress(FileNotFoundError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
        return [str(number) for number in range(sum(line.startswith("GPU") for line in listed.splitlines()))]
    return []


class Runner:
    """Runs stages, each with a share of the cores and one GPU."""

    def __init__(self, n_jobs: int, gpus: list[str]):
        self.n_jobs, self.gpus = n_jobs, gpus
        self.places: SimpleQueue[str] = SimpleQueue()
        for job in range(n_jobs):
            self.places.put(gpus[job % len(gpus)] if gpus else "")
        self.processes: set[subprocess.Popen] = set()

    def run(self, stages: list[str], n_at_once: int) -> None:
        """Run stages one after another, and print their output with the name of the first one in front.

        Args:
            n_at_once: number of stages that share the cores.
        Raises:
            UserError: a stage failed.
        """
        environment = {"OMP_NUM_THREADS": str(-(-count_cores() // n_at_once)), **os.environ}
        gpu = self.places.get()
        if gpu:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        command = ["dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", *stages]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, env=environment, **pipes) as process:
            self.processes.add(process)
            print(f"[{stages[0]}] is out of date" + "; next: " * (len(stages) > 1) + ", ".join(stages[1:]), flush=True)
            for line in process.stdout:
                print(f"[{stages[0]}] {line}", end="", flush=True)
        self.processes.remove(process)
        self.places.put(gpu)
        if process.returncode:
            raise UserError(
                f"{' or '.join(stages)} failed; its own error is above; `dvc repro {stages[-1]}` runs it alone"
            )

    def stop(self) -> None:
        """Stop running stages: a stage ends with its dvc process."""
        for process in self.processes:
            process.terminate()


def run_all(repo: Repo, pool: ThreadPoolExecutor, runner: Runner) -> None:
    """Run the stages that are out of date, each as soon as its dependencies exist.

    Short stages come first, so that each model is scored as soon as it is trained; then the path to the first score;
    then the longest chain.

    Raises:
        UserError: a stage failed.
    """
    needed = repo.stage.collect(TARGET, with_deps=True)
    graph = repo.index.graph.subgraph(needed)
    order = TopologicalSorter({stage: graph.successors(stage) for stage in needed})
    work = {stage: estimate(stage) for stage in needed}
    chains, first = measure_chains(graph, work), find_first(graph, work)
    giant = find_giant(work) if runner.n_jobs > 1 and not runner.gpus else None
    audit = {stage for stage in needed if stage.addressing == "audit"}
    # stages that need the giant also wait for all others
    alone = {giant, *ancestors(graph, giant), *audit} if giant else set()
    order.prepare()

    def rank(stage: Stage) -> tuple[bool, bool, bool, float, str]:
        return work[stage] > MOMENT, stage in alone, stage not in first, -chains[stage], stage.addressing

    short = {stage for stage in needed if work[stage] <= MOMENT}
    finished: set[Stage] = set()
    is_up_to_date = True
    running: dict[Future, list[Stage]] = {}
    ready: list[Stage] = sorted(order.get_ready(), key=rank)

    def finish(stages: list[Stage]) -> None:
        finished.update(stages)
        for stage in stages:
            order.done(stage)
            ready.extend(set(order.get_ready()) - finished)
        ready.sort(key=rank)

    while order.is_active():
        while ready and len(running) < runner.n_jobs:
            if running and alone & {ready[0], *chain(*running.values())}:
                break
            stage = ready.pop(0)
            with repo.lock:
                is_stale = stage.changed()
            if is_stale:
                stages = follow(stage, graph, finished, short & alone if stage in alone else short - alone)
                n_at_once = 1 if stage in alone else runner.n_jobs
                running[pool.submit(runner.run, [each.addressing for each in stages], n_at_once)] = stages
                is_up_to_date = False
            else:
                finish([stage])
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            future.result()
            finish(running.pop(future))
    if is_up_to_date:
        print("Data and pipelines are up to date.")  # as `dvc repro` says


def follow(stage: Stage, graph: DiGraph, finished: set[Stage], short: set[Stage]) -> list[Stage]:
    """Return a stage, and the short stages after it that wait for nothing else, unless several could start then."""
    stages = [stage]
    while True:
        done = {*finished, *stages}
        after = [each for each in graph.predecessors(stages[-1]) if done.issuperset(graph.successors(each))]
        if len(after) != 1 or after[0] not in short:
            return stages
        stages += after


def measure_chains(graph: DiGraph, work: dict[Stage, float]) -> dict[Stage, float]:
    """Return an estimate of the work from each stage to the end, itself included.

    Args:
        graph: stages of DVC, with edges to their dependencies.
        work: estimated work of each stage.
    """
    chains: dict[Stage, float] = {}
    for stage in reversed(list(topological_sort(graph.reverse()))):
        chains[stage] = work[stage] + max((chains[after] for after in graph.predecessors(stage)), default=0)
    return chains


def find_first(graph: DiGraph, work: dict[Stage, float]) -> set[Stage]:
    """Return the evaluation that can finish first, and all stages that it depends on."""
    paths = measure_chains(graph.reverse(), work)
    scored = min((stage for stage in graph if stage.addressing.startswith("evaluate@")), key=paths.get)
    return {scored, *descendants(graph, scored)}


def find_giant(work: dict[Stage, float]) -> Stage | None:
    """Return the stage that takes longer than all other stages together, or None."""
    longest = max(work, key=work.get)
    return longest if 2 * work[longest] > sum(work.values()) else None


def estimate(stage: Stage) -> float:
    """Return the pixels that a training or the audit sees per image, times 1.4 for a VGG; MOMENT for other stages."""
    kind, _, name = stage.addressing.rpartition(":")[2].partition("@")
    if kind not in ("train", "audit"):
        return MOMENT
    recipe = read_params(Path(stage.path).with_name("params.yaml"))
    if kind == "audit":
        return recipe.audit.image_size_px**2
    model = recipe.models[name]
    return (1.4 if model.architecture == "vgg" else 1) * model.epochs * model.image_size_px**2  # measured at 32 px


if __name__ == "__main__":
    run_stage(main)
