"""Measure how well pictures of other things are detected: by distance, and by the confidence of the answer.

    python -m benchmarks.novelty FOREIGN [--model NAME] [--models data/models] [--packed data/packed] [--most 300]

FOREIGN is a folder of pictures of other things. Prints for the ensemble, or for one model:

- AUROC: how often a foreign picture has a higher score than a test picture;
- refused: the share of foreign pictures beyond the limit, which 99 % of the validation pictures do not exceed; and the
  share of test pictures, which should not be refused.

The methods: `distance`, as in the pipeline; `nearest`, the cosine distance between outputs of the backbone to the
nearest training picture; `unsure`, one minus the largest probability. Distances are fitted here to the packed training
pictures, so that runs of older versions without distances can be measured, too.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from stages.doubt.novelty import choose_reference, find_limit
from stages.evaluate import find_cloud
from stages.inference.ensembles import Ensemble, Member, load_ensemble
from stages.inference.pictures import list_files, read_pictures
from stages.inference.probabilities import predict_with_features
from stages.networks.devices import choose_device
from stages.networks.maps import BACKBONE
from stages.pixels.packed_splits import SPLITS, open_splits
from stages.runtime.process import exit_cleanly

PARTS = ("val", "test", "foreign")


class Scores(NamedTuple):
    """The scores of a member for the pictures of PARTS, one part after the other."""

    probabilities: np.ndarray  # (n_images, n_classes)
    distance: np.ndarray  # (n_images,)
    nearest: np.ndarray  # (n_images,)


def measure(member: Member, packed: Path, foreign: np.ndarray) -> tuple[Scores, np.ndarray]:
    """Return the scores of a member, and for each picture the number of its part in PARTS."""
    card = member.card
    _, (train, val, test) = open_splits(packed / str(card.image_size_px), SPLITS)
    view, network = card.view(choose_device()), member.network
    cloud = find_cloud(network, train, view)
    layers = [*cloud.layers, BACKBONE]
    reference = train.images[choose_reference(train.labels)]
    parts = [predict_with_features(network, layers, images, view) for images in (val.images, test.images, foreign)]
    width = cloud.centres.shape[1]
    known = predict_with_features(network, [BACKBONE], reference, view)[1]
    of_parts = [
        Scores(said, cloud.distances(features[:, :width]), 1 - (features[:, width:] @ known.T).max(axis=1))
        for said, features in parts
    ]
    scores = Scores(*(np.concatenate(each) for each in zip(*of_parts, strict=True)))
    return scores, np.repeat(range(len(PARTS)), [len(said) for said, _ in parts])


def compare(ensemble: Ensemble, packed: Path, foreign: dict[int, np.ndarray]) -> pd.DataFrame:
    """Return a row per method; distances of the ensemble are means over its members, in units of their limits."""
    counted = [member for member in ensemble.members if member]
    measured = [measure(member, packed, foreign[member.card.stored_size_px]) for member in counted]
    part = measured[0][1]
    probabilities = np.ones((len(ensemble.members), *measured[0][0].probabilities.shape))
    has_say = [member is not None for member in ensemble.members]
    probabilities[has_say] = [scores.probabilities for scores, _ in measured]
    ways = {"unsure": 1 - ensemble.vote.probabilities(probabilities).max(axis=1)}
    for way in ("nearest", "distance"):
        rows = [getattr(scores, way) for scores, _ in measured]
        units = [row / find_limit(row[part == 0]) for row in rows]
        ways[way] = np.average(units, axis=0, weights=ensemble.vote.weights[has_say])
    return pd.DataFrame({way: describe(*(score[part == i] for i in range(3))) for way, score in ways.items()}).T


def describe(val: np.ndarray, test: np.ndarray, foreign: np.ndarray) -> dict[str, float]:
    limit, labels = find_limit(val), np.repeat([0, 1], [len(test), len(foreign)])
    auroc = roc_auc_score(labels, np.concatenate([test, foreign]))
    return {"AUROC": auroc, "refused": (foreign > limit).mean(), "refused of test": (test > limit).mean()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("foreign", metavar="FOREIGN", help="a folder of pictures")
    parser.add_argument("--model", metavar="NAME", help="only this model; by default the ensemble")
    parser.add_argument("--models", type=Path, default=Path("data/models"))
    parser.add_argument("--packed", type=Path, default=Path("data/packed"))
    parser.add_argument("--most", type=int, default=300, help="most pictures to use from FOREIGN, chosen at random")
    arguments = parser.parse_args()
    ensemble = load_ensemble(arguments.models, arguments.model)
    paths = np.random.default_rng(0).permutation(list(list_files([arguments.foreign])))[: arguments.most].tolist()
    read = [found for _, found in read_pictures(paths, ensemble.stored_sizes_px, ensemble.grey_bits)]
    pictures = [found for found in read if not isinstance(found, str)]
    print(f"{len(pictures)} foreign pictures")
    foreign = {size_px: np.stack([each[size_px] for each in pictures]) for size_px in ensemble.stored_sizes_px}
    print(compare(ensemble, arguments.packed, foreign).round(4).to_string())


if __name__ == "__main__":
    exit_cleanly(main)
