"""Score a trained model on the packed validation and test images, and keep what it says of each.

python -m stages.evaluate MODEL_FILE PACKED PREDICTIONS METRICS_JSON METRICS_FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from stages.networks.batches import View, predict_batches
from stages.networks.devices import choose_device
from stages.networks.model_files import load_model
from stages.pixels.packed_splits import PackedSplit, open_splits
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.scoring.class_tables import write_tables
from stages.scoring.predictions import Predictions, write_predictions
from stages.scoring.scores import score
from stages.training.checkpoint_folder import forget_weights

BATCH_SIZE = 128


@torch.no_grad()
def predict_proba(network: nn.Module, split: PackedSplit, view: View) -> np.ndarray:
    """Return class probabilities, float32 (n_images, n_classes), in the split's order.

    In float32 throughout: a score should not depend on the device's idea of bfloat16, or of TF32.
    """
    torch.backends.cudnn.allow_tf32 = False
    network.to(view.device)
    batches = predict_batches(lambda images: network(images).softmax(dim=1).cpu(), split, BATCH_SIZE, view)
    total = -(-len(split) // BATCH_SIZE)
    return torch.cat([rows for rows, _ in tqdm(batches, total=total, disable=None, leave=False)]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model_file", "packed", "predictions", "metrics_json", "metrics_folder"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()

    network, card = load_model(arguments.model_file)
    forget_weights(arguments.model_file)
    class_names, (val, test) = open_splits(arguments.packed, ("val", "test"))
    view = View(card.image_size_px, tuple(card.mean), tuple(card.std), choose_device())
    of_val, of_test = predict_proba(network, val, view), predict_proba(network, test, view)
    predictions = Predictions(of_val, val.labels, of_test, test.labels, np.array(class_names))
    write_predictions(arguments.predictions, predictions)

    scores, val_scores = score(test.labels, of_test), score(val.labels, of_val)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    write_json(arguments.metrics_json, {**scores, "val": val_scores, "start": card.start, "n_parameters": n_parameters})
    name = arguments.metrics_folder.name
    write_tables(arguments.metrics_folder, name, test.labels, of_test, class_names)
    print(f"evaluate {name}: test accuracy {scores['accuracy']:.4f}, val {val_scores['accuracy']:.4f}")


if __name__ == "__main__":
    run_stage(main)
