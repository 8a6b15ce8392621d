"""Train a network on the packed images, from scratch or from start weights; write the model and its history by epoch.

python -m stages.train MODEL PACKED MODEL_FILE HISTORY [--params PATH]

MODEL is the name of a block under `models` in the parameters.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from stages.networks.devices import choose_device
from stages.networks.model_files import save_weights
from stages.pixels.packed_splits import open_splits, read_groups
from stages.runtime.process import run_stage
from stages.runtime.sources import describe
from stages.training.checkpoint_folder import find_folder
from stages.training.checkpoints import open_checkpoint
from stages.training.history import write_history
from stages.training.job import prepare, read_recipe
from stages.training.processes import join_processes, spread_out
from stages.training.trainer import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    for name in ("packed", "model_file", "history"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.params, arguments.model)
    spread_out("stages.train")
    device = choose_device()
    processes = join_processes(device)

    class_names, splits = open_splits(arguments.packed, ("train", "val"))
    code = describe("stages.train") + describe(f"stages.models.{recipe.models[arguments.model].architecture}")
    parts = {"groups": read_groups(arguments.packed, "train"), "code": code, "processes": processes}
    network, card, job = prepare(recipe, arguments.model, class_names, splits, device, **parts)
    checkpoint = None
    if processes.is_first:
        checkpoint = open_checkpoint(find_folder(arguments.model_file), network, job)
    best = fit(network, job, lambda rows: write_history(arguments.history, rows), checkpoint)
    if checkpoint:
        save_weights(arguments.model_file, best, asdict(card))
        checkpoint.finish(arguments.model_file)


if __name__ == "__main__":
    run_stage(main)
