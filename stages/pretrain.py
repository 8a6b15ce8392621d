"""Any image folder in; one backbone, trained on it from scratch, out: weights that fine-tuning can start from.

    python -m stages.pretrain BACKBONE IMAGES WEIGHTS_FILE HISTORY [--policy skip]

BACKBONE is vgg19 or resnet50. The classifier that it was trained with is left out of the file. Of a folder with
train/, val/ and test/ of its own, the test images stay unseen.
"""

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from stages.dataset.image_table import read_dataset
from stages.dataset.splits import stratify
from stages.networks.devices import choose_device
from stages.networks.model_files import ModelCard, build_network, save_weights
from stages.pixels.packed_splits import open_pack, read_classes
from stages.pixels.packing import write_pack
from stages.runtime.errors import UserError
from stages.runtime.files import unfinished, write_json
from stages.runtime.process import run_stage
from stages.settings.reading import read_config
from stages.settings.types import Pretrain
from stages.training.checkpoints import only_one
from stages.training.history import write_history
from stages.training.loop import Task, fit, resumable
from stages.training.processes import Processes, join_processes, spread_out

MAX_PIXELS = 100_000_000
COPY_BITS = 48


def pack_folder(folder: Path, packed: Path, settings: Pretrain, policy: str) -> None:
    """Split and pack an image folder into `packed`: train/, val/ and the names of the classes.

    Raises:
        UserError: the folder has no classes, or too few images of one, or files that the policy refuses.
    """
    dataset = read_dataset(folder, MAX_PIXELS, COPY_BITS)
    if problems := dataset.problems(policy):
        raise UserError(*problems)
    images = dataset.images
    if not {"train", "val"} <= set(images["split"].dropna()):
        fractions = (1 - settings.val, settings.val, 0)
        images = images[images["split"] != "test"]
        splits = stratify(images["class"].tolist(), images["group"].tolist(), fractions, settings.seed)
        images = images.assign(split=splits)
    for split in ("train", "val"):
        rows = images[images["split"] == split]
        paths = [folder / path for path in rows["path"]]
        write_pack(packed / split, paths, rows["label"].tolist(), rows["sha256"].tolist(), settings.stored_size_px)
    write_json(packed / "classes.json", dataset.classes)


def train_backbone(
    backbone: str, packed: Path, weights_file: Path, history: Path, config: Pretrain, processes: Processes
) -> None:
    """Train the backbone, with a classifier on top, and write its weights and its history."""
    settings = getattr(config, backbone)
    classes = read_classes(packed)
    card = ModelCard(f"{backbone}_pretrained", settings.network(), classes, config.image_size_px, start="scratch")
    torch.manual_seed(config.seed)
    network = build_network(card)
    task = Task(
        name=f"pretrain {backbone}",
        train=open_pack(packed / "train", len(classes)),
        val=open_pack(packed / "val", len(classes)),
        n_classes=len(classes),
        image_size_px=config.image_size_px,
        settings=settings,
        augment=config.augment,
        seed=config.seed,
        device=choose_device(),
        processes=processes,
    )
    with resumable(weights_file, network, task) as checkpoint:
        fit(network, task, lambda rows: write_history(history, rows), checkpoint)
        if processes.is_first:
            save_weights(weights_file, network.backbone.cpu().state_dict(), asdict(card))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=("vgg19", "resnet50"))
    for name in ("images", "weights_file", "history"):
        parser.add_argument(name, type=Path)
    parser.add_argument(
        "--policy", choices=("strict", "skip"), default="strict", help="towards files that are no image"
    )
    arguments = parser.parse_args()
    config = read_config().pretrain

    spread_out("stages.pretrain")
    processes = join_processes(choose_device())
    # beside the weights, not in /tmp: that may be memory, and a large folder's pixels would fill it
    packed = unfinished(arguments.weights_file.with_suffix(".packed"))
    with only_one(arguments.weights_file, processes):
        try:
            if processes.is_first:
                shutil.rmtree(packed, ignore_errors=True)
                pack_folder(arguments.images, packed, config, arguments.policy)
            processes.wait()
            train_backbone(arguments.backbone, packed, arguments.weights_file, arguments.history, config, processes)
        finally:
            if processes.is_first:
                shutil.rmtree(packed, ignore_errors=True)


if __name__ == "__main__":
    run_stage(main)
