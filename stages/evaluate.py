"""A trained model and the packed validation and test images in; its probabilities and scores out.

python -m stages.evaluate MODEL_FILE PACKED PREDICTIONS METRICS_JSON METRICS_FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stages.networks.batches import evaluation_batches, place_pack
from stages.networks.devices import choose_device
from stages.networks.model_files import load_model, open_packs
from stages.pixels.packed_splits import Pack, read_classes
from stages.reporting.stage_names import training_stage
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.scoring.class_tables import write_tables
from stages.scoring.predictions import Predictions, find_fault, write_predictions
from stages.scoring.scores import score

BATCH_SIZE = 128


@torch.no_grad()
def predict_proba(network: nn.Module, pack: Pack, image_size_px: int, device: torch.device) -> np.ndarray:
    """Return class probabilities, float32 (n_images, n_classes), in the pack's order.

    In float32 throughout: a score should not depend on the device's idea of bfloat16, or of TF32.
    """
    torch.backends.cudnn.allow_tf32 = False
    network.to(device)
    batches = evaluation_batches(place_pack(pack, device), BATCH_SIZE, image_size_px, device)
    total = -(-len(pack) // BATCH_SIZE)
    rows = [network(images).softmax(dim=1).cpu() for images, _ in tqdm(batches, total=total, disable=None, leave=False)]
    return torch.cat(rows).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model_file", "packed", "predictions", "metrics_json", "metrics_folder"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()

    network, card = load_model(arguments.model_file)
    remedy = f"run `dvc repro {training_stage(arguments.model_file.stem)}`"
    class_names = read_classes(arguments.packed)
    if card.class_names != class_names:
        raise UserError(
            f"{arguments.model_file}: trained on other classes: expected the {len(class_names)} of "
            f"{arguments.packed / 'classes.json'}, found {len(card.class_names)} of its own; {remedy}"
        )
    splits = open_packs(arguments.packed, ("val", "test"), card)
    device = choose_device()
    probabilities = {name: predict_proba(network, pack, card.image_size_px, device) for name, pack in splits.items()}
    predictions = Predictions(
        val_probabilities=probabilities["val"],
        val_labels=splits["val"].labels,
        test_probabilities=probabilities["test"],
        test_labels=splits["test"].labels,
        class_names=np.array(card.class_names),
    )
    if fault := find_fault(predictions):
        raise UserError(f"{arguments.model_file}: {fault}; {remedy}")
    write_predictions(arguments.predictions, predictions)
    scores = {name: score(pack.labels, probabilities[name]) for name, pack in splits.items()}
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    write_json(
        arguments.metrics_json,
        {**scores["test"], "val": scores["val"], "start": card.start, "n_parameters": n_parameters},
    )
    title = arguments.metrics_folder.name
    write_tables(arguments.metrics_folder, title, splits["test"].labels, probabilities["test"], card.class_names)
    print(f"evaluate {title}: test accuracy {scores['test']['accuracy']:.4f}, val {scores['val']['accuracy']:.4f}")


if __name__ == "__main__":
    run_stage(main)
