"""Measure time and memory of split and pack, and how both grow with the number of images.

    python -m benchmarks.growth [--counts 1000 10000 100000] [--size 32] [--folder DISK]

For each count, images are drawn in a temporary folder, then split and packed by the commands of dvc.yaml, with the
images still in the page cache. The time includes start-up, which can make the slope smaller than 1; therefore the rate
of the additional images is given as well.

Memory counts only pages that the kernel cannot drop: anonymous and shared-memory pages (Pss_Anon + Pss_Shmem + SwapPss
of smaps_rollup), summed over the process of the stage and its workers every 50 ms. A page that n of them share counts
1/n in each. Code and memory-mapped packs do not count, because the kernel can drop pages of files; RSS would count them
once per process. A folder in tmpfs is memory itself, so --folder must be on a disk.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly
from stages.runtime.workers import count_cores
from stages.settings.types import N_FLOWER_CLASSES

ROOT = Path(__file__).parent.parent
IMAGES = "data/flowers/images"
PARAMS = ("params.yaml", "data/flowers/params.yaml")
PIPELINES = {"draw": "data/flowers/dvc.yaml", "split": "dvc.yaml", "pack": "dvc.yaml"}
PACKED_PX = 32
MIN_IMAGES = 3  # per class: one for each split
MIN_COUNT = N_FLOWER_CLASSES * MIN_IMAGES
SAMPLE_S = 0.05


def run_measured(command: str, folder: Path) -> dict[str, float]:
    """Run a command of dvc.yaml in a folder; return wall_s, cpu_s and peak_memory_mib.

    Raises:
        UserError: the command failed; the message is the last line that it printed.
    """
    peak = {"peak_memory_mib": 0.0}
    words, environment = [sys.executable, *shlex.split(command)[1:]], os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        threading.Thread(target=_sample_memory, args=(process, peak), daemon=True).start()
        _, status, usage = os.wait4(process.pid, 0)  # usage of the process and of its finished workers
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise UserError(f"{command}: {output.read().decode().strip().rpartition(chr(10))[2]}")
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime, **peak}


def _sample_memory(process: subprocess.Popen, peak: dict[str, float]) -> None:
    while process.returncode is None:
        try:
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return  # the process has just ended
        peak["peak_memory_mib"] = max(peak["peak_memory_mib"], sum(read_memory_mib(each.pid) for each in family))
        time.sleep(SAMPLE_S)


def read_memory_mib(pid: int) -> float:
    """Return a process's share of the memory that the kernel cannot drop; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kept = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kept)) / 1024


def read_yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path)


def write_params(folder: Path, n_images: int, size_px: int) -> None:
    """Write the parameters of the repository with this number and size of images, as JSON, which YAML can read."""
    params, drawing = (read_yaml(ROOT / name) for name in PARAMS)
    drawing["draw"] |= {"n_images": n_images, "min_images": MIN_IMAGES, "size_px": size_px}
    # among so many drawn pictures, a few look like copies; do not stop for them
    params |= {"images": IMAGES, "images_policy": "skip"}
    for name, content in zip(PARAMS, (params, drawing), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def measure_count(n_images: int, size_px: int, folder: Path) -> list[dict[str, Any]]:
    """Draw n_images in an empty folder, split and pack them; return a row for split and one for pack."""
    write_params(folder, n_images, size_px)
    rows = []
    for stage, pipeline in PIPELINES.items():
        print(f"growth: {stage} {n_images} images of {size_px} px", file=sys.stderr)
        written = read_yaml(ROOT / pipeline)["stages"][stage]
        command = written.get("do", written)["cmd"].replace("${images}", IMAGES).replace("${item}", str(PACKED_PX))
        cost = run_measured(command, folder)
        rate = n_images / cost["wall_s"]
        rates = {"images_per_s": rate, "images_per_s_per_core": rate / count_cores()}
        rows.append({"stage": stage, "n_images": n_images, **cost, **rates})
    return rows[1:]  # without the time for drawing


def fit_growth(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """Return how the cost of a stage grows from one count to a larger one.

    `exponent` is the slope of log wall time over log images, 1 if linear; other values are per additional image.
    """
    more = {key: large[key] - small[key] for key in ("n_images", "wall_s", "peak_memory_mib")}
    return {
        "stage": small["stage"],
        "exponent": math.log(large["wall_s"] / small["wall_s"]) / math.log(large["n_images"] / small["n_images"]),
        "further_images_per_s": more["n_images"] / more["wall_s"],
        "bytes_per_further_image": more["peak_memory_mib"] * 2**20 / more["n_images"],
    }


def measure_growth(counts: list[int], size_px: int = 32, folder: Path | None = None) -> dict[str, Any]:
    """Measure split and pack at each count, once.

    Args:
        counts: numbers of images, each MIN_COUNT or more.
        folder: an existing folder on a disk, for temporary folders; None: the default of the system.
    Returns:
        {"n_cores", "size_px", "rows": of measure_count, "growth": of fit_growth, between the two largest counts}.
    Raises:
        UserError: the system is not Linux, or a stage failed.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise UserError("expected /proc/PID/smaps_rollup to read memory from; only Linux has it")
    rows = []
    for n_images in sorted(set(counts)):
        with tempfile.TemporaryDirectory(prefix="quintet-growth-", dir=folder) as temporary:
            rows += measure_count(n_images, size_px, Path(temporary))
    growth = [fit_growth(*pair) for pair in zip(rows[-4:-2], rows[-2:], strict=True)] if len(rows) > 2 else []
    return {"n_cores": count_cores(), "size_px": size_px, "rows": rows, "growth": growth}


def render_text(rows: list[dict[str, Any]]) -> str:
    """Format rows with the same keys as an aligned table for a terminal."""
    cells = [list(rows[0])] + [[f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[1000, 10_000, 100_000], help="numbers of images")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--folder", type=Path, help="existing folder on a disk, for temporary folders")
    arguments = parser.parse_args()
    if min(arguments.counts) < MIN_COUNT:
        parser.error(f"--counts: expected {MIN_COUNT} or more, {MIN_IMAGES} a class; found {min(arguments.counts)}")
    if arguments.size < 16:
        parser.error(f"--size: expected 16 or more, found {arguments.size}")
    if arguments.folder and not arguments.folder.is_dir():
        parser.error(f"--folder: {arguments.folder}: no such folder; make it first")
    results = measure_growth(arguments.counts, arguments.size, arguments.folder)
    for rows in filter(None, (results["rows"], results["growth"])):
        print(render_text(rows))


if __name__ == "__main__":
    exit_cleanly(main)
