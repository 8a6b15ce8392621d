"""Measure a `dvc repro` that runs nothing, and compare it with a trivial pipeline.

    python -m benchmarks.noop [--rounds 5] [--repository .]

The trivial pipeline has the same number of stages, each of which copies a tiny file: its time is the overhead of DVC.
The two are timed in turn and compared in each round, so that other load on the machine affects both equally.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly

ROOT = Path(__file__).parent.parent
SKIPPED = "didn't change, skipping"  # DVC's message about a stage
QUIET = {"DVC_NO_ANALYTICS": "1", "CI": "1"}  # CI: DVC does not look for a newer version


def run_dvc(folder: Path, *words: str, **variables: str) -> str:
    """Run a DVC command in a folder, with additional environment variables; return its output.

    Raises:
        UserError: the command failed.
    """
    command = [sys.executable, "-m", "dvc", *words]
    environment = os.environ | QUIET | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{folder}: dvc {words[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def count_stages(repository: Path) -> int:
    """Count the stages that `dvc repro` checks, including those of the inputs, without running any.

    Raises:
        UserError: `dvc repro` would run some of them.
    """
    # only the inputs that the parameters name: the others were never run and always count as changed
    status = json.loads(run_dvc(repository, "status", "dvc.yaml", "--with-deps", "--json"))
    if status:
        names = ", ".join(sorted(status)[:3]) + ", ..." * (len(status) > 3)
        raise UserError(
            f"{repository}: expected an up-to-date repository, but {len(status)} of its stages would run ({names}); "
            "run `dvc repro` there first"
        )
    return run_dvc(repository, "repro", "--dry").count(SKIPPED)


def make_trivial(folder: Path, n_stages: int) -> None:
    """Make a DVC repository whose stages are a chain of copies of a tiny file, and run it once."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    site_cache = str(folder / "site_cache")  # otherwise DVC leaves a folder in its default place for every repository
    run_dvc(folder, "init", "-q", DVC_SITE_CACHE_DIR=site_cache)
    run_dvc(folder, "config", "-q", "core.site_cache_dir", site_cache)
    stages = {
        f"copy{i}": {"cmd": f"cp {i} {i + 1}", "deps": [f"{i}"], "params": [f"p{i}"], "outs": [f"{i + 1}"]}
        for i in range(n_stages)
    }
    # YAML reads JSON
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    (folder / "params.yaml").write_text(json.dumps({f"p{i}": i for i in range(n_stages)}), encoding="utf-8")
    (folder / "0").write_text("tiny\n", encoding="utf-8")
    run_dvc(folder, "repro", "-q")


def time_noop(folder: Path, n_stages: int) -> float:
    """Return the seconds of a `dvc repro` that skips all stages."""
    started = time.perf_counter()
    output = run_dvc(folder, "repro")
    duration_s = time.perf_counter() - started
    if output.count(SKIPPED) != n_stages:
        raise UserError(f"{folder}: expected {n_stages} stages to be passed over, found {output.count(SKIPPED)}")
    return duration_s


def measure_noop(repository: Path = ROOT, n_rounds: int = 5) -> dict[str, Any]:
    """Time `dvc repro` in an up-to-date repository and in the trivial one, in turn.

    Returns:
        {"n_stages", "repository_s" and "trivial_s": one time per round, "median_repository_s", "median_trivial_s",
        "median_ratio": the median over rounds of the repository's time divided by the trivial one's}.
    Raises:
        UserError: the repository is not up to date.
    """
    n_stages = count_stages(repository)
    times: dict[Path, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="quintet-noop-") as temporary:
        trivial = Path(temporary)
        make_trivial(trivial, n_stages)
        for i in range(n_rounds + 1):
            # they take turns in going first
            for folder in (repository, trivial) if i % 2 else (trivial, repository):
                times.setdefault(folder, []).append(time_noop(folder, n_stages))
            print(f"noop: round {i} of {n_rounds}" + " (warm-up)" * (i == 0), file=sys.stderr)
    own, others = times[repository][1:], times[trivial][1:]
    ratios = [a / b for a, b in zip(own, others, strict=True)]
    medians = {"median_repository_s": median(own), "median_trivial_s": median(others), "median_ratio": median(ratios)}
    return {"n_stages": n_stages, "repository_s": own, "trivial_s": others, **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one warm-up")
    parser.add_argument("--repository", type=Path, default=ROOT, help="up-to-date DVC repository; by default this one")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected 1 or more, found {arguments.rounds}")
    if not (arguments.repository / "dvc.yaml").is_file():
        parser.error(f"--repository: {arguments.repository}: no dvc.yaml there")
    results = measure_noop(arguments.repository, arguments.rounds)
    print(f"dvc repro that runs nothing, {results['n_stages']} stages, median of {arguments.rounds} rounds")
    for name in ("repository", "trivial"):
        print(f"{name:<10}  {results[f'median_{name}_s']:6.3f} s")
    print(f"{'ratio':<10}  {results['median_ratio']:6.3f}    median of the rounds' ratios")


if __name__ == "__main__":
    exit_cleanly(main)
