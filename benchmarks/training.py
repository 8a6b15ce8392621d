"""Measure the training speed of a model, and compare it with the arithmetic limit and with an ordinary training loop.

    python -m benchmarks.training MODEL [--size 224] [--batch 32] [--rounds 3] [--seconds 6]

Three methods train the same network on the same images with the same batches. Each round measures all of them in turn:

- real: epochs as in `stages/train.py` (packed data, augmentation, metrics); each overlaps with the writing of the
  previous checkpoint;
- limit: forward, backward and a step of the same optimizer on one batch that is already on the device, repeatedly; one
  half before `real` and one after it, so that a machine that becomes slower changes both equally;
- peer: torchvision's ImageFolder, a DataLoader with the best of 0, 1, 2, 4, ... workers (at most one per core), v2
  transforms and a plain loop, with the same optimizer and precision, compiled if the model is; and again in plain fp32
  with Adam.

Prints one JSON object.
"""

import argparse
import copy
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from stages.networks.cards import write_card
from stages.networks.devices import choose_device, computes_bf16
from stages.networks.model_files import build_network
from stages.networks.start_weights import SCRATCH
from stages.pixels.packed_splits import open_splits
from stages.pixels.packing import write_packed_split
from stages.runtime.files import write_json
from stages.runtime.workers import count_cores
from stages.settings.reading import read_params
from stages.settings.types import Recipe
from stages.training.checkpoints import Checkpoint
from stages.training.job import Job, place_network
from stages.training.optimizers import build_optimizer
from stages.training.trainer import Trainer


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], int], device: torch.device) -> float:
    """Return the images/s of a function that returns the number of images it used."""
    finish(device)
    started = time.perf_counter()
    n_images = run()
    finish(device)
    return n_images / (time.perf_counter() - started)


class Real:
    """The training of this project, one epoch at a time."""

    def __init__(self, network: nn.Module, job: Job, folder: Path):
        self.trainer = Trainer(place_network(network, job), job)
        self.checkpoint = Checkpoint(folder, "benchmark")

    def __call__(self, n_epochs: int = 1) -> int:
        for _ in range(n_epochs):
            self._run_epoch()
        return n_epochs * len(self.trainer.job.train)

    def _run_epoch(self) -> None:
        trainer, job = self.trainer, self.trainer.job
        trainer.epoch = job.settings.frozen_epochs  # in earlier epochs, the backbone is frozen
        if trainer.history:
            self.checkpoint.write(trainer.state_dict())
        trainer.train_one_epoch()
        trainer.history.append({"best": 1, "epoch": trainer.number + 1})


class Plain:
    """A plain loop over batches: forward, backward, optimizer step."""

    def __init__(self, network: nn.Module, job: Job, *, fast: bool):
        self.network, self.settings, self.device, self.fast = network, job.settings, job.device, fast
        self.in_bf16 = fast and job.in_bf16
        self.network.to(self.device, memory_format=torch.channels_last if fast else torch.contiguous_format).train()
        if fast and self.settings.compile != "none":
            network.compile(dynamic=False)
        settings = self.settings.model_copy(update={"lr": 1e-5, "backbone_lr": None})
        self.optimizer = (
            build_optimizer(network, settings, 1)[0] if fast else torch.optim.Adam(network.parameters(), lr=1e-5)
        )

    def __call__(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> int:
        n_images = 0
        layout = torch.channels_last if self.fast else torch.contiguous_format
        for images, labels in batches:
            images = images.to(self.device, memory_format=layout, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bf16):
                logits = self.network(images)
                loss = functional.cross_entropy(logits.float(), labels, label_smoothing=self.settings.label_smoothing)
            loss.backward()
            self.optimizer.step()
            n_images += len(labels)
        return n_images


def first(loader: Iterable, n_images: int) -> Iterable:
    """Yield batches, epoch after epoch, until they contain `n_images`."""
    for images, labels in itertools.chain.from_iterable(itertools.repeat(loader)):
        yield images, labels
        n_images -= len(labels)
        if n_images <= 0:
            return


def build_loader(folder: Path, job: Job, n_workers: int) -> DataLoader:
    transforms = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(job.train.images.shape[1], InterpolationMode.BICUBIC),
            v2.RandomCrop(job.view.size_px),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(job.view.mean, job.view.std),
        ]
    )
    return DataLoader(
        ImageFolder(folder, transforms),
        job.settings.batch_size,
        shuffle=True,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        pin_memory=job.device.type == "cuda",
    )


def choose_workers(folder: Path, job: Job, plain: Plain, n_images: int) -> tuple[int, DataLoader]:
    """Return the number of workers that makes the plain loop fastest, and its loader, warmed up."""
    speeds = {}
    for n_workers in (0, *(2**power for power in range(count_cores().bit_length()))):
        loader = build_loader(folder, job, n_workers)
        plain(first(loader, 2 * job.settings.batch_size))
        speeds[n_workers] = timed(lambda loader=loader: plain(first(loader, n_images // 2)), job.device), loader
    best = max(speeds, key=lambda n_workers: speeds[n_workers][0])
    print(f"peer: {', '.join(f'{n} workers {speed:.0f}' for n, (speed, _) in speeds.items())}", file=sys.stderr)
    return best, speeds[best][1]


def prepare(
    params: Recipe, model: str, folder: Path, size_px: int | None, batch_size: int | None
) -> tuple[nn.Module, Job]:
    """Build a network with fresh weights and its job as in the stage `train`, or with other image and batch sizes.

    It also writes class folders with links to the training images into `folder`/images, for the peer.
    """
    manifest = pd.read_csv("data/manifest.csv", keep_default_na=False, dtype={"path": str, "sha256": str})
    rows = manifest[manifest["split"] == "train"]
    paths = [Path(params.images) / path for path in rows["path"]]
    for path, label in zip(paths, rows["label"], strict=True):
        link = folder / "images" / f"{label:04d}" / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    settings = params.models[model]
    names, (train,) = open_splits(Path("data/packed") / str(settings.image_size_px), ("train",))
    if size_px:
        write_json(folder / "classes.json", names)
        write_packed_split(folder / "train", paths, rows["label"].tolist(), rows["sha256"].tolist(), size_px * 8 // 7)
        _, (train,) = open_splits(folder, ("train",))
    settings = settings.model_copy(update={"batch_size": batch_size or settings.batch_size})
    sizes_px = train.images.shape[1], size_px or settings.image_size_px
    card = write_card(settings.architecture, settings.arguments(), names, sizes_px, start=SCRATCH)
    torch.manual_seed(params.seed)
    device = choose_device()
    job = Job(
        name=model,
        train=train,
        val=train,
        n_classes=len(names),
        view=card.view(device),
        settings=settings,
        augment=params.augment,
        seed=params.seed,
        in_bf16=settings.precision == "bf16" and computes_bf16(device),
    )
    return build_network(card), job


def count_gflop(network: nn.Module, images: torch.Tensor) -> float:
    """Return the floating-point operations of a training step per image, in 10^9, as counted by torch."""
    with FlopCounterMode(display=False) as counter:
        network(images).sum().backward()
    network.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(images) / 1e9


def measure(model: str, size_px: int | None, batch_size: int | None, n_rounds: int, aim_s: float) -> dict:
    """Return images/s of each method (medians), and the medians of the ratios within a round.

    Args:
        aim_s: approximate duration of one measurement, at least one epoch.
    """
    with tempfile.TemporaryDirectory(dir="data") as name:
        folder = Path(name)
        network, job = prepare(read_params(), model, folder, size_px, batch_size)
        settings, device = job.settings, job.device
        copies = [copy.deepcopy(network) for _ in range(3)]
        real = Real(network, job, folder)
        real()  # warm-up
        speed = timed(real, device)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        peak_gpu_mib = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0
        n_images = max(8 * settings.batch_size, int(speed * aim_s))
        n_epochs = max(1, n_images // len(job.train))
        limit, peer = (Plain(each, job, fast=True) for each in copies[:2])
        slow_peer = Plain(copies[2], job, fast=False)
        n_workers, loader = choose_workers(folder / "images", job, peer, n_images)
        images, labels = next(iter(loader))
        one = images.to(device, memory_format=torch.channels_last), labels.to(device)
        half = [one] * -(-n_images // settings.batch_size // 2)
        ways = {
            "limit_before": lambda: limit(half),
            "real": lambda: real(n_epochs),
            "limit_after": lambda: limit(half),
            "peer": lambda: peer(first(loader, n_images)),
            "peer_fp32": lambda: slow_peer(first(loader, n_images // 2)),
        }
        limit(half), ways["peer_fp32"]()  # warm-up
        speeds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(n_rounds):
            for way, run in ways.items():
                speeds[way].append(timed(run, device))
        real.checkpoint.wait()
        gflop = count_gflop(slow_peer.network, one[0])  # the slow peer is never compiled
        halves = speeds.pop("limit_before"), speeds.pop("limit_after")
        speeds["limit"] = [statistics.harmonic_mean(pair) for pair in zip(*halves, strict=True)]
    rounds = pd.DataFrame(speeds)
    return {
        "model": model,
        "image_size_px": job.view.size_px,
        "batch_size": settings.batch_size,
        "images_per_s": {way: round(statistics.median(values), 1) for way, values in speeds.items()},
        "real_to_limit": float(np.median(rounds["real"] / rounds["limit"])),
        "real_to_peer": float(np.median(rounds["real"] / rounds["peer"])),
        "real_to_peer_fp32": float(np.median(rounds["real"] / rounds["peer_fp32"])),
        "peer_workers": n_workers,
        "gflop_per_image": round(gflop, 3),
        "limit_tflop_per_s": round(statistics.median(speeds["limit"]) * gflop / 1000, 3),
        "peak_memory_mib": round(peak_mib),
        "peak_gpu_memory_mib": round(peak_gpu_mib),
        "rounds": {way: [round(value, 1) for value in values] for way, values in speeds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--size", type=int, help="image size in pixels; by default the model's pack and size")
    parser.add_argument("--batch", type=int, help="images per batch; by default the model's batch_size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="duration of one measurement, at least one epoch")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.model, arguments.size, arguments.batch, arguments.rounds, arguments.seconds)))


if __name__ == "__main__":
    main()
