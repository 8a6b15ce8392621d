"""Compare kinds of ensembles on validation images: those of scoring/voting.py, and two that were tried and not used.

    python -m benchmarks.votes PREDICTIONS [PREDICTIONS ...]

PREDICTIONS is a folder of `<model>.npz` (data/predictions). Scores are cross-fitted in five folds; means over two
assignments of folds are printed. The standard error of the difference shows whether a difference is noise.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from stages.scoring.cross_entropy import log
from stages.scoring.cross_fitting import cross_fit
from stages.scoring.predictions import read_members
from stages.scoring.voting import VOTES

N_SEEDS = 2
N_ROUNDS = 50


@dataclass(frozen=True)
class GreedySelection:
    """The mean of greedily selected members: each step adds the member (repeats allowed) that improves the mean most.

    Source: Caruana et al. 2004, by cross-entropy.
    """

    counts: np.ndarray  # (n_models,)

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "GreedySelection":
        counts, images = np.zeros(len(models)), np.arange(len(labels))
        right_ones = models[:, images, labels]  # (n_models, n_images)
        for _ in range(N_ROUNDS):
            losses = -log((counts @ right_ones + right_ones) / (counts.sum() + 1)).mean(axis=1)
            counts[losses.argmin()] += 1
        return cls(counts)

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        return np.tensordot(self.counts / self.counts.sum(), models, axes=1)


@dataclass(frozen=True)
class Stacking:
    """Multinomial regression on the log-probabilities of the members, with a strong normal prior (the best of four).

    Source: Wolpert 1992; a class without an image to fit on gets probability 0.
    """

    regression: LogisticRegression
    n_classes: int

    @classmethod
    def fit(cls, models: np.ndarray, labels: np.ndarray) -> "Stacking":
        return cls(LogisticRegression(C=0.03, tol=0.01).fit(stack(models), labels), models.shape[2])

    def probabilities(self, models: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((models.shape[1], self.n_classes))
        probabilities[:, self.regression.classes_] = self.regression.predict_proba(stack(models))
        return probabilities


def stack(models: np.ndarray) -> np.ndarray:
    """Return all log-probabilities with one row per image: (n_images, n_models * n_classes)."""
    return log(models).transpose(1, 0, 2).reshape(models.shape[1], -1)


def compare(folder: Path) -> pd.DataFrame:
    """Return validation accuracy and loss of each kind of ensemble, and its loss above the smallest loss."""
    members = read_members(folder, sorted(path.stem for path in folder.glob("*.npz")))
    models, first = np.stack([member.val_probabilities for member in members.values()]), next(iter(members.values()))
    labels, groups = first.val_labels, first.val_groups
    images, losses, rows = np.arange(len(labels)), {}, {}
    for name, kind in {**VOTES, "greedy_selection": GreedySelection, "stacking": Stacking}.items():
        votes = [cross_fit(kind, models, labels, groups, seed) for seed in range(N_SEEDS)]
        losses[name] = -log(np.stack([vote[images, labels] for vote in votes])).mean(axis=0)  # loss of each image
        rows[name] = {"accuracy": np.mean([(vote.argmax(axis=1) == labels).mean() for vote in votes])}
    for name, member in members.items():
        losses[name] = -log(member.val_probabilities[images, labels])
        rows[name] = {"accuracy": (member.val_probabilities.argmax(axis=1) == labels).mean()}
    table = pd.DataFrame(rows).T
    table["loss"] = [each.mean() for each in losses.values()]
    best = losses[table["loss"].idxmin()]
    table["above"] = [(each - best).mean() for each in losses.values()]
    table["error"] = [(each - best).std() / len(labels) ** 0.5 for each in losses.values()]
    return table


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, compare(Path(argument)).round(4).to_string(), sep="\n", flush=True)
