"""Measure the speed of this project: training, growth with the number of images, and the overhead of DVC.

    python -m benchmarks [--only training growth noop]
    python -m benchmarks --only training --size 224 --batch 32 256     # a GPU, in half an hour

Writes benchmarks/results/CHIP.json, with the image size in the file name if --size is given. If the pipeline has not
run, the embedded set is drawn, split and packed first. `noop` needs a pipeline that is up to date.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly
from stages.runtime.workers import count_cores
from stages.settings.reading import read_params

RESULTS = Path(__file__).parent / "results"
INPUTS = {  # inputs of a training, and the commands that make them
    "data/flowers/images": "stages.draw flowers data/flowers/images --params data/flowers/params.yaml",
    "data/manifest.csv": "stages.split data/manifest.csv data/rejected.csv metrics",
    **{
        f"data/packed/{size_px}": f"stages.pack data/manifest.csv {size_px} data/packed/{size_px}"
        for size_px in read_params().image_sizes_px
    },
}


def name_chip() -> str:
    """Return the name of the GPU, or the name of the processor with the number of cores in use."""
    import torch

    if torch.cuda.is_available() and not os.environ.get("QUINTET_DEVICE", "").startswith("cpu"):
        return torch.cuda.get_device_name()
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return f"{names[0] if names else 'processor'}, {count_cores()} cores"


def name_results(suffix: str = "") -> Path:
    """Return the path of the results for this chip."""
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name_chip().lower()).strip('-')}{suffix}.json"


def measure_training(arguments: argparse.Namespace, results: list[dict]) -> list[dict]:
    """Measure each model in its own process, to get its peak memory; a new result replaces an older one."""
    for model in arguments.models or read_params().models:
        for batch in arguments.batch or [None]:
            command = [sys.executable, "-m", "benchmarks.training", model, "--rounds", str(arguments.rounds)]
            command += ["--seconds", str(arguments.seconds)]
            command += ["--size", str(arguments.size)] if arguments.size else []
            command += ["--batch", str(batch)] if batch else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise UserError(f"{' '.join(command[1:])}: exit code {done.returncode}")
            result = json.loads(done.stdout)
            print(render_line(result), flush=True)
            results = [each for each in results if _key(each) != _key(result)] + [result]
    return results


def _key(result: dict) -> tuple:
    return result["model"], result["image_size_px"], result["batch_size"]


def render_line(result: dict) -> str:
    speeds = "  ".join(f"{way} {speed:7.1f}" for way, speed in result["images_per_s"].items())
    return (
        f"{result['model']:<20} {result['image_size_px']} px, batch {result['batch_size']:3}: {speeds} images/s;"
        f"  real/limit {result['real_to_limit']:.3f}  real/peer {result['real_to_peer']:.2f}"
        f"  real/fp32 peer {result['real_to_peer_fp32']:.2f}  peak {result['peak_memory_mib']} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["training", "growth", "noop"], help="by default all three")
    parser.add_argument("--models", nargs="+", help="models to train; by default all")
    parser.add_argument("--size", type=int, help="image size in pixels; by default as in the pipeline")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes; by default as in each model's block")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="duration of one measurement; at least one epoch")
    arguments = parser.parse_args()
    chosen = arguments.only or ["training", "growth", "noop"]
    path = name_results(f"-{arguments.size}px" if arguments.size else "")
    # keep older results that are not measured now
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results["chip"] = name_chip()
    if "training" in chosen:
        for made, command in INPUTS.items():
            if not Path(made).exists():
                subprocess.run([sys.executable, "-m", *command.split()], check=True)
        results["training"] = measure_training(arguments, results.get("training", []))
    if "growth" in chosen:
        from benchmarks.growth import measure_growth, render_text

        results["growth"] = measure_growth([1000, 10_000, 100_000], folder=Path("data"))
        print(render_text(results["growth"]["rows"]))
    if "noop" in chosen:
        from benchmarks.noop import measure_noop

        results["noop"] = measure_noop(n_rounds=arguments.rounds)
        print(f"dvc repro that runs nothing: {results['noop']}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    exit_cleanly(main)
