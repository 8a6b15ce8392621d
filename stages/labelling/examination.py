"""All labels examined at once, from features to how likely each is wrong: a function of arrays."""

from dataclasses import dataclass

import numpy as np

from stages.labelling.noise import Noise, fit_noise, judge
from stages.labelling.out_of_fold import predict_out_of_fold, prepare
from stages.scoring.temperatures import temper

MIN_PICTURES = 8  # of a class: fewer tell too little of it to call a label wrong, and are ranked alone
LISTED = 0.5  # labels that are wrong with this probability or more


@dataclass(frozen=True)
class Examination:
    """What is found about each of n_images labels."""

    probabilities: np.ndarray  # out of fold and tempered, float, (n_images, n_classes)
    noise: Noise
    wrong: np.ndarray  # how likely the label is wrong, float, (n_images,)
    suggested: np.ndarray  # the likeliest other class, int, (n_images,)
    judged: np.ndarray  # bool, (n_images,): its class has MIN_PICTURES

    def rank(self) -> np.ndarray:
        """Return the rows of the labels that look wrong, the likeliest first."""
        listed = np.flatnonzero(self.wrong >= LISTED)
        return listed[np.argsort(-self.wrong[listed], kind="stable")]


def examine(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, n_classes: int) -> Examination:
    """Examine labels by what other pictures say of them.

    Args:
        features: float32, shape (n_images, n_features), of a network that has not learnt from these labels.
        labels, groups: int, shape (n_images,); the copies of a picture share a group.
    """
    probabilities = predict_out_of_fold(prepare(features), labels, groups, n_classes)
    noise = fit_noise(probabilities, labels)
    wrong = judge(probabilities, labels, noise)
    judged = count_pictures(labels, groups) >= MIN_PICTURES
    suggested = suggest(probabilities, labels)
    return Examination(temper(probabilities, noise.temperature), noise, wrong, suggested, judged)


def suggest(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the likeliest class but the given one, int, shape (n_images,)."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    return others.argmax(axis=1)


def count_pictures(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return how many pictures the class of each has, copies counted once; int, shape (n_images,)."""
    pictures = np.unique(np.stack([labels, groups]), axis=1)
    return np.bincount(pictures[0])[labels]
