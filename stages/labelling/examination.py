"""Examine all labels: from features to the probability that each label is wrong, as a function of arrays."""

from dataclasses import dataclass

import numpy as np

from stages.labelling.noise import Noise, fit_noise, judge
from stages.labelling.out_of_fold import predict_out_of_fold, prepare
from stages.scoring.temperatures import temper

MIN_PICTURES = 8  # per class; with fewer pictures, labels are ranked but not called wrong
LISTED = 0.5  # labels that are wrong with at least this probability are listed


@dataclass(frozen=True)
class Examination:
    """The results for each of n_images labels."""

    probabilities: np.ndarray  # out of fold and tempered, float, (n_images, n_classes)
    noise: Noise
    wrong: np.ndarray  # probability that the label is wrong, float, (n_images,)
    suggested: np.ndarray  # the likeliest other class, int, (n_images,)
    judged: np.ndarray  # whether the class has MIN_PICTURES, bool, (n_images,)

    def rank(self) -> np.ndarray:
        """Return the rows of the labels that look wrong, the most likely ones first."""
        listed = np.flatnonzero(self.wrong >= LISTED)
        return listed[np.argsort(-self.wrong[listed], kind="stable")]


def examine(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, n_classes: int) -> Examination:
    """Examine each label with a classifier that learnt from other pictures.

    Args:
        features: float32, shape (n_images, n_features), from a network that has not learnt from these labels.
        labels, groups: int, shape (n_images,); the copies of a picture share a group.
    """
    probabilities = predict_out_of_fold(prepare(features), labels, groups, n_classes)
    noise = fit_noise(probabilities, labels)
    wrong = judge(probabilities, labels, noise)
    judged = count_pictures(labels, groups) >= MIN_PICTURES
    suggested = suggest(probabilities, labels)
    return Examination(temper(probabilities, noise.temperature), noise, wrong, suggested, judged)


def suggest(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the likeliest class other than the given one, int, shape (n_images,)."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    return others.argmax(axis=1)


def count_pictures(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the number of pictures in the class of each picture, int, shape (n_images,); copies count once."""
    pictures = np.unique(np.stack([labels, groups]), axis=1)
    return np.bincount(pictures[0])[labels]
