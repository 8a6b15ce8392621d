"""Score a trained model on the packed validation and test images, and keep what it says of each.

    python -m stages.evaluate MODEL_FILE PACKED NAMES PREDICTIONS ATTENTION METRICS_JSON METRICS_FOLDER

NAMES has the names to read of the classes, which predictions and tables are written with.

ATTENTION holds `rows`, the test images that the model gets wrong and is most sure of, and `maps`, where it looked; none
where it has no convolutions to look at, or keeps its maps in an order that cannot be told.
"""

import argparse
from pathlib import Path

import numpy as np

from stages.inference.probabilities import predict_proba
from stages.networks.attention import draw_attention
from stages.networks.class_names import read_names
from stages.networks.devices import choose_device
from stages.networks.model_files import load_model
from stages.pixels.packed_splits import open_splits, read_groups
from stages.reporting.class_tables import write_tables
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.scoring.mistakes import choose_mistakes, write_attention
from stages.scoring.predictions import Predictions, write_predictions
from stages.scoring.scores import score

N_MISTAKES = 100  # whose maps are kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model_file", "packed", "names", "predictions", "attention", "metrics_json", "metrics_folder"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()

    network, card = load_model(arguments.model_file)
    classes, (val, test) = open_splits(arguments.packed, ("val", "test"))
    class_names = read_names(arguments.names, classes)
    view = card.view(choose_device())
    of_val, of_test = (predict_proba(network, split.images, view) for split in (val, test))
    val_groups, test_groups = (read_groups(arguments.packed, split) for split in ("val", "test"))
    names = np.array(class_names)
    predictions = Predictions(of_val, val.labels, val_groups, of_test, test.labels, test_groups, names)
    write_predictions(arguments.predictions, predictions)
    mistakes = choose_mistakes(test.labels, of_test, N_MISTAKES)
    maps = draw_attention(network, test.images, mistakes, view)
    write_attention(arguments.attention, mistakes[: len(maps)], maps)
    name = arguments.metrics_folder.name
    if len(maps) < len(mistakes):
        print(f"evaluate {name}: no attention maps: no layer has a feature map of 4 x 4 pixels or more")

    scores, val_scores = score(test.labels, of_test, test_groups), score(val.labels, of_val, val_groups)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    write_json(arguments.metrics_json, {**scores, "val": val_scores, "start": card.start, "n_parameters": n_parameters})
    write_tables(arguments.metrics_folder, name, test.labels, of_test, class_names)
    print(f"evaluate {name}: test accuracy {scores['accuracy']:.4f}, val {val_scores['accuracy']:.4f}")


if __name__ == "__main__":
    run_stage(main)
