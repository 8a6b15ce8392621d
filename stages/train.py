"""Train a network on the packed images, from scratch or from weights; write it, and its history as epochs end.

python -m stages.train MODEL PACKED MODEL_FILE HISTORY [--params PATH]

MODEL is a block of `models` in the parameters.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from stages.networks.batches import View
from stages.networks.devices import choose_device
from stages.networks.model_files import build_network, save_weights, write_card
from stages.networks.start_weights import SCRATCH, load_start_weights
from stages.pixels.packed_splits import open_splits
from stages.runtime.errors import UserError
from stages.runtime.process import run_stage
from stages.runtime.sources import describe
from stages.settings.reading import read_params
from stages.training.checkpoint_folder import find_folder, forget_finished
from stages.training.history import write_history
from stages.training.loop import Task, fit, open_checkpoint
from stages.training.processes import join_processes, spread_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("packed", "model_file", "history"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    config = read_params(arguments.params)
    if arguments.model not in config.models:
        known = ", ".join(config.models)
        raise UserError(f"{arguments.params}: models: expected one of {known}, found no {arguments.model!r}")
    spread_out("stages.train")
    device = choose_device()
    processes = join_processes(device)

    settings = config.models[arguments.model]
    class_names, (train, val) = open_splits(arguments.packed, ("train", "val"))
    sizes_px = train.images.shape[1], config.image_size_px
    card = write_card(settings.architecture, settings.arguments(), class_names, sizes_px, SCRATCH)
    torch.manual_seed(config.seed)
    network = build_network(card)
    card = replace(card, start=load_start_weights(network, Path(settings.weights)))
    task = Task(
        name=arguments.model,
        train=train,
        val=val,
        n_classes=len(class_names),
        view=View(card.image_size_px, card.mean, card.std, device),
        settings=settings,
        augment=config.augment,
        seed=config.seed,
        processes=processes,
    )
    checkpoint = None
    if processes.is_first:
        forget_finished(Path(settings.weights))
        code = describe("stages.train") + describe(f"stages.models.{settings.architecture}")
        checkpoint = open_checkpoint(find_folder(arguments.model_file), network, task, code)
    best = fit(network, task, lambda rows: write_history(arguments.history, rows), checkpoint)
    if checkpoint:
        save_weights(arguments.model_file, best, asdict(card))
        checkpoint.finish(arguments.model_file)


if __name__ == "__main__":
    run_stage(main)
