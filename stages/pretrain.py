"""Any image folder in; one backbone, trained on it from scratch, out: weights that fine-tuning can start from.

    python -m stages.pretrain BACKBONE IMAGES WEIGHTS_FILE HISTORY

BACKBONE is vgg19 or resnet50. The classifier that it was trained with is left out of the file. Of a folder with
train/, val/ and test/ of its own, the test images stay unseen.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from stages.shared.config import Pretrain, read_config
from stages.shared.devices import choose_device
from stages.shared.history import write_history
from stages.shared.images import find_images, hash_file
from stages.shared.model_files import ModelCard, build_network, save_weights
from stages.shared.packs import Pack, open_pack, write_pack
from stages.shared.running import run_stage
from stages.shared.splits import stratify
from stages.shared.training import Task, fit


def pack_folder(images: Path, packed: Path, settings: Pretrain) -> tuple[Pack, Pack, list[str]]:
    """Split and pack an image folder into `packed`; return its training and validation packs and its classes."""
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
    return open_pack(packed / "train"), open_pack(packed / "val"), classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbone", choices=("vgg19", "resnet50"))
    for name in ("images", "weights_file", "history"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    config = read_config().pretrain

    settings = getattr(config, arguments.backbone)
    arguments.weights_file.parent.mkdir(parents=True, exist_ok=True)
    # beside the weights, not in /tmp: that may be memory, and a large folder's pixels would fill it
    with tempfile.TemporaryDirectory(dir=arguments.weights_file.parent) as packed:
        train, val, classes = pack_folder(arguments.images, Path(packed), config)
        model = f"{arguments.backbone}_pretrained"
        card = ModelCard(model, settings.network(), classes, config.image_size_px, start="scratch")
        torch.manual_seed(config.seed)
        network = build_network(card)
        task = Task(
            name=f"pretrain {arguments.backbone}",
            train=train,
            val=val,
            n_classes=len(classes),
            image_size_px=config.image_size_px,
            settings=settings,
            augment=config.augment,
            seed=config.seed,
            device=choose_device(),
        )
        fit(network, task, on_epoch=lambda rows: write_history(arguments.history, rows))
    save_weights(arguments.weights_file, network.backbone.cpu().state_dict(), asdict(card))


if __name__ == "__main__":
    run_stage(main)
