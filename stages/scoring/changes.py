"""The effect of a change on a classifier: scores on the same pictures before and after, and the changed answers."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from stages.scoring.comparison import flip_signs
from stages.scoring.cross_entropy import log
from stages.scoring.intervals import Z, count_by_groups, difference_interval, mean_interval

Z_POWER = 0.841621  # quantile of a normal distribution: four cases of five are below
KINDS = ("gained", "lost", "other")  # right only after the change, right only before it, wrong in another way


def compare_change(labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Compare the probabilities of a classifier before and after a change, averaged over the seeds of its training.

    Args:
        labels, groups: int, shape (n_images,); copies have one group.
        before, after: float, shape (n_seeds, n_images, n_classes); rows sum to 1.
    Returns:
        accuracy_before, accuracy_after, accuracy_difference (after minus before), low and high (its 95 % interval),
        mid_p (McNemar's test), n_needed (see `count_needed`); loss_before, loss_after, loss_difference, loss_low and
        loss_high (the same for the mean cross-entropy, in nats). For several seeds also seed_deviation, the standard
        deviation of the accuracy difference over seeds, and seed_p, Student's test that its mean is 0.
    """
    right_before, right_after = (each.argmax(axis=2) == labels for each in (before, after))
    gains = right_after.astype(int) - right_before  # (n_seeds, n_images)
    gain = gains.mean(axis=0)
    of_one = len(gains) == 1
    low, high = (
        difference_interval(right_after[0], right_before[0], groups) if of_one else mean_interval(gain, groups, doubt=1)
    )
    losses_before, losses_after = (-log(each[:, np.arange(len(labels)), labels]) for each in (before, after))
    growth = (losses_after - losses_before).mean(axis=0, dtype=float)
    loss_low, loss_high = mean_interval(growth, groups)
    return {
        "accuracy_before": float(right_before.mean()),
        "accuracy_after": float(right_after.mean()),
        "accuracy_difference": float(gain.mean()),
        "low": low,
        "high": high,
        "mid_p": flip_signs(gains.sum(axis=0), groups, is_mid=True),
        "n_needed": count_needed(gain, groups),
        "loss_before": float(losses_before.mean(dtype=float)),
        "loss_after": float(losses_after.mean(dtype=float)),
        "loss_difference": float(growth.mean()),
        "loss_low": loss_low,
        "loss_high": loss_high,
        **({} if of_one else compare_seeds(gains.mean(axis=1), len(labels))),
    }


def compare_seeds(differences: np.ndarray, n_images: int) -> dict[str, float]:
    """Return the standard deviation of accuracy differences, (n_seeds,), and the p-value that their mean is 0.

    Source: Student's t; the deviation is at least that of rounding, because accuracies come in steps of one image.
    """
    n_seeds, deviation = len(differences), differences.std(ddof=1)
    error = max(deviation, 1 / (n_images * 12**0.5)) / n_seeds**0.5
    p = 2 * t.sf(abs(differences.mean()) / error, n_seeds - 1)
    return {"seed_deviation": float(deviation), "seed_p": float(p)}


def count_needed(gain: np.ndarray, groups: np.ndarray) -> int | None:
    """Return how many pictures are needed to detect a difference of this size with 80 % power.

    Args:
        gain: float, shape (n_images,): 1 if only the second is right, -1 if only the first is right.
        groups: int, shape (n_images,).
    Returns:
        The number for McNemar's test at the 5 % level without correction, with as many copies; None if the difference
        is 0.
    Source: Miettinen 1968, Connor 1987; with the design effect of the copies.
    """
    if not gain.sum():
        return None
    without_one, with_one = np.sqrt((gain**2).mean()), gain.std()
    n = ((Z * without_one + Z_POWER * with_one) / gain.mean()) ** 2
    return math.ceil(n * len(gain) / count_by_groups(gain, groups))


def find_changed(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """List the images whose answer differs; images with two confident answers come first.

    Args:
        labels: int, shape (n_images,).
        before, after: float, shape (n_images, n_classes).
    Returns:
        Columns row, label, kind (of KINDS); said_before, said_after (classes); sure_before, sure_after (probabilities).
    """
    said_before, said_after = before.argmax(axis=1), after.argmax(axis=1)
    sure_before, sure_after = before.max(axis=1), after.max(axis=1)
    rows = np.flatnonzero(said_before != said_after)
    rows = rows[np.argsort(-np.minimum(sure_before, sure_after)[rows], kind="stable")]
    kind = np.select([said_after == labels, said_before == labels], KINDS[:2], KINDS[2])
    columns = {"label": labels, "kind": kind, "said_before": said_before, "said_after": said_after}
    columns |= {"sure_before": sure_before.astype(float), "sure_after": sure_after.astype(float)}
    return pd.DataFrame({"row": rows, **{name: values[rows] for name, values in columns.items()}})


def count_changed(labels: np.ndarray, changed: pd.DataFrame, class_names: list[str]) -> list[dict[str, Any]]:
    """Count the changed answers per class; classes that lost or gained most come first.

    Args:
        changed: as from `find_changed`.
    Returns:
        A dict per class: name, n_images, and the number of each of KINDS.
    """
    counts = pd.crosstab(changed["label"], changed["kind"]).reindex(columns=list(KINDS), fill_value=0)
    net, n_images = (counts["gained"] - counts["lost"]).abs(), np.bincount(labels)
    order = sorted(counts.index, key=lambda it: (-net[it], -counts.loc[it].sum(), it))
    return [
        {"name": class_names[it], "n_images": int(n_images[it]), **{kind: int(counts[kind][it]) for kind in KINDS}}
        for it in order
    ]
