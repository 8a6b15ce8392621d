"""Compare the ONNX graphs of the models and of the ensemble with PyTorch on the whole test split, and time both.

    python -m benchmarks.export [--models data/models] [--packed data/packed] [--rounds 5]

Prints for each: the largest difference of a probability; the number of images with the same answer; and images/s of
PyTorch (as in `evaluate`) and of onnxruntime, with the same batches and number of threads. Both run in turn in each
round; the median over the rounds is printed.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from stages.inference.ensembles import load_ensemble
from stages.inference.graphs import IMAGES, write_onnx
from stages.inference.probabilities import BATCH_SIZE
from stages.pixels.packed_splits import open_splits
from stages.runtime.process import exit_cleanly
from stages.runtime.workers import count_cores


def compare(models: Path, name: str | None, images: dict[int, np.ndarray], n_rounds: int) -> dict[str, object]:
    """Export a model (None: the ensemble); return how it differs from PyTorch, and both speeds."""
    import onnxruntime

    ensemble = load_ensemble(models, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        started = time.perf_counter()
        files = write_onnx(path, ensemble)
        duration_s = time.perf_counter() - started
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        size_mb = sum(each.stat().st_size for each in files) / 1e6
    images = {size_px: images[size_px] for size_px in ensemble.stored_sizes_px}
    n_images = len(next(iter(images.values())))
    ways: dict[str, Callable[[dict[int, np.ndarray]], np.ndarray]] = {
        "torch": lambda batch: ensemble.predict_proba(batch, torch.device("cpu")),
        "onnxruntime": lambda batch: session.run(None, {IMAGES.format(size): each for size, each in batch.items()})[0],
    }
    answers, durations = {}, {way: [] for way in ways}
    for _ in range(n_rounds + 1):  # the first round is a warm-up
        for way, answer in ways.items():
            started = time.perf_counter()
            rows = [slice(start, start + BATCH_SIZE) for start in range(0, n_images, BATCH_SIZE)]
            parts = [answer({size_px: each[batch] for size_px, each in images.items()}) for batch in rows]
            durations[way].append(time.perf_counter() - started)
            answers[way] = np.concatenate(parts)
    same = (answers["torch"].argmax(axis=1) == answers["onnxruntime"].argmax(axis=1)).sum()
    return {
        "largest_difference": f"{np.abs(answers['torch'] - answers['onnxruntime']).max():.1e}",
        "same_answers": f"{same}/{n_images}",
        **{f"{way}_images_per_s": round(n_images / median(times[1:])) for way, times in durations.items()},
        "export_s": round(duration_s, 1),
        "file_mb": round(size_mb, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("data/models"))
    parser.add_argument("--packed", type=Path, default=Path("data/packed"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", count_cores())))
    tests = [open_splits(path.parent, ("test",))[1][0] for path in arguments.packed.glob("*/classes.json")]
    images = {test.images.shape[1]: np.array(test.images) for test in tests}
    print(f"{len(tests[0])} images, batches of {BATCH_SIZE}, {torch.get_num_threads()} threads")
    for name in [*sorted(path.stem for path in arguments.models.glob("*.safetensors")), None]:
        row = compare(arguments.models, name, images, arguments.rounds)
        print(f"{name or 'vote':<20}", *(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
