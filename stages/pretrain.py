"""Any image folder in; one backbone, trained on it from scratch, out: weights that fine-tuning can start from.

    python -m stages.pretrain BACKBONE IMAGES WEIGHTS_FILE HISTORY

BACKBONE is vgg19 or resnet50. The classifier that it was trained with is left out of the file. Of a folder with
train/, val/ and test/ of its own, the test images stay unseen.
"""

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from stages.shared.checkpoints import only_one
from stages.shared.config import Pretrain, read_config
from stages.shared.devices import choose_device
from stages.shared.files import unfinished, write_json
from stages.shared.history import write_history
from stages.shared.images import find_images, hash_file
from stages.shared.model_files import ModelCard, build_network, save_weights
from stages.shared.packs import open_pack, read_classes, write_pack
from stages.shared.processes import Processes, join_processes, spread_out
from stages.shared.running import run_stage
from stages.shared.splits import stratify
from stages.shared.training import Task, fit, resumable


def pack_folder(images: Path, packed: Path, settings: Pretrain) -> None:
    """Split and pack an image folder into `packed`: train/, val/ and the names of the classes."""
    found = find_images(images)
    classes = sorted({image.class_folder for image in found})
    splits = [image.split for image in found]
    if splits[0] is None:
        groups = [hash_file(images / image.path) for image in found]
        fractions = (1 - settings.val, settings.val, 0)
        splits = stratify([image.class_folder for image in found], groups, fractions, settings.seed)
    for split in ("train", "val"):
        rows = [image for image, its_split in zip(found, splits, strict=True) if its_split == split]
        paths = [images / image.path for image in rows]
        labels = [classes.index(image.class_folder) for image in rows]
        write_pack(packed / split, paths, labels, settings.stored_size_px)
    write_json(packed / "classes.json", classes)


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
        train=open_pack(packed / "train"),
        val=open_pack(packed / "val"),
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
                pack_folder(arguments.images, packed, config)
            processes.wait()
            train_backbone(arguments.backbone, packed, arguments.weights_file, arguments.history, config, processes)
        finally:
            if processes.is_first:
                shutil.rmtree(packed, ignore_errors=True)


if __name__ == "__main__":
    run_stage(main)
