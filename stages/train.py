"""Packed training and validation images in; a network trained from scratch or fine-tuned, and its history, out.

python -m stages.train MODEL PACKED MODEL_FILE HISTORY [--backbone WEIGHTS]
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from stages.networks.devices import choose_device
from stages.networks.model_files import ModelCard, build_network, open_packs, save_weights
from stages.networks.start_weights import load_backbone
from stages.pixels.packed_splits import read_classes
from stages.runtime.errors import UserError
from stages.runtime.process import run_stage
from stages.settings.reading import read_config
from stages.training.checkpoints import only_one
from stages.training.history import write_history
from stages.training.loop import Task, fit, resumable
from stages.training.processes import join_processes, spread_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for name in ("packed", "model_file", "history"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--backbone", type=Path, help="safetensors that the network's backbone starts from")
    arguments = parser.parse_args()
    config = read_config()
    spread_out("stages.train")
    device = choose_device()
    processes = join_processes(device)

    if arguments.model not in config.models:
        known = ", ".join(config.models)
        raise UserError(f"params.yaml: models: expected one of {known}, found no {arguments.model!r}; add its block")
    settings = config.models[arguments.model]
    class_names = read_classes(arguments.packed)
    card = ModelCard(arguments.model, settings.network(), class_names, config.image_size_px, start="scratch")
    packs = open_packs(arguments.packed, ("train", "val"), card)
    torch.manual_seed(config.seed)
    network = build_network(card)
    if arguments.backbone:
        card = replace(card, start=load_backbone(network, arguments.backbone, arguments.model))
    task = Task(
        name=arguments.model,
        train=packs["train"],
        val=packs["val"],
        n_classes=len(class_names),
        image_size_px=config.image_size_px,
        settings=settings,
        augment=config.augment,
        seed=config.seed,
        device=device,
        processes=processes,
    )
    with only_one(arguments.model_file, processes), resumable(arguments.model_file, network, task) as checkpoint:
        best = fit(network, task, lambda rows: write_history(arguments.history, rows), checkpoint)
        if processes.is_first:
            save_weights(arguments.model_file, best, asdict(card))


if __name__ == "__main__":
    run_stage(main)
