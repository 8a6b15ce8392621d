"""Score a trained model on the packed validation and test images, and save its predictions.

    python -m stages.evaluate MODEL_FILE PACKED NAMES PREDICTIONS ATTENTION DISTANCES NOVELTY METRICS_JSON
        METRICS_FOLDER

NAMES has the readable class names for predictions and tables. ATTENTION has `rows`, the wrongly classified test images
with the highest confidence, and `maps`, their attention maps; there are no maps if the network has no convolutions, or
if the layout of its feature maps is unknown. NOVELTY has the distribution of the training images in the features of the
model, and DISTANCES the distances of the validation and test images from it.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.doubt.novelty import Cloud, Distances, choose_reference, fit_cloud, write_cloud, write_distances
from stages.inference.probabilities import predict_with_features
from stages.networks.attention import draw_attention
from stages.networks.batches import View, make_batch
from stages.networks.class_names import read_names
from stages.networks.devices import choose_device
from stages.networks.maps import find_layers, identify_head
from stages.networks.model_files import load_model
from stages.pixels.packed_splits import SPLITS, PackedSplit, open_splits, read_groups
from stages.reporting.class_tables import write_tables
from stages.runtime.files import write_json
from stages.runtime.process import run_stage
from stages.scoring.mistakes import choose_mistakes, write_attention
from stages.scoring.predictions import Predictions, write_predictions
from stages.scoring.scores import score

N_MISTAKES = 100  # number of mistakes with an attention map


def find_cloud(network: nn.Module, train: PackedSplit, view: View) -> Cloud:
    """Fit the distribution of the training images in the features of the network."""
    rows = choose_reference(train.labels)
    network.to(view.device)
    layers = find_layers(network, make_batch(train.images, torch.from_numpy(rows[:1]), view))
    _, features = predict_with_features(network, layers, train.images[rows], view)
    return fit_cloud(features, train.labels[rows], layers, identify_head(network))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = ("predictions", "attention", "distances", "novelty", "metrics_json", "metrics_folder")
    for name in ("model_file", "packed", "names", *outputs):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()

    network, card = load_model(arguments.model_file)
    classes, (train, val, test) = open_splits(arguments.packed, SPLITS)
    class_names = read_names(arguments.names, classes)
    view = card.view(choose_device())
    cloud = find_cloud(network, train, view)
    write_cloud(arguments.novelty, cloud)
    (of_val, val_features), (of_test, test_features) = (
        predict_with_features(network, cloud.layers, split.images, view) for split in (val, test)
    )
    write_distances(arguments.distances, Distances(*map(cloud.distances, (val_features, test_features))))
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
