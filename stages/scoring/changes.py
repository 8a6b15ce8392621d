"""What a change did to a classifier: its scores on the same pictures before and after, and the answers that differ."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from stages.scoring.comparison import flip_signs
from stages.scoring.cross_entropy import log
from stages.scoring.intervals import Z, count_by_groups, difference_interval, mean_interval

Z_POWER = 0.841621  # of a normal distribution: four cases in five lie below
KINDS = ("gained", "lost", "other")  # right only after the change, right only before it, wrong in another way


def compare_change(labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Compare the probabilities of a classifier before and after a change, averaged over the seeds of its training.

    Args:
        labels, groups: int, shape (n_images,); copies have one group.
        before, after: float, shape (n_seeds, n_images, n_classes); rows sum to 1.
    Returns:
        accuracy_before, accuracy_after and accuracy_difference (after less before), low and high (its 95 % interval),
        mid_p (of McNemar's test), n_needed (see `count_needed`); loss_before, loss_after, loss_difference, loss_low and
        loss_high (the same of the mean cross-entropy, in nats); of several seeds, seed_deviation, the standard
        deviation of the accuracies' difference from seed to seed, and seed_p, of Student's test that its mean is 0.
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
    """Return the standard deviation of differences of accuracy, (n_seeds,), and the p-value that they are 0 on average.

    Source: Student's t; the deviation is no less than that of rounding, since accuracies come in steps of an image.
    """
    n_seeds, deviation = len(differences), differences.std(ddof=1)
    error = max(deviation, 1 / (n_images * 12**0.5)) / n_seeds**0.5
    p = 2 * t.sf(abs(differences.mean()) / error, n_seeds - 1)
    return {"seed_deviation": float(deviation), "seed_p": float(p)}


def count_needed(gain: np.ndarray, groups: np.ndarray) -> int | None:
    """Return how many pictures, with as many copies, show a difference as large as this one in four cases of five.

    Args:
        gain: float, shape (n_images,): 1 where only the second is right, -1 where only the first is.
        groups: int, shape (n_images,).
    Returns:
        The number for McNemar's test at a level of 5 %, without a correction; None where there is no difference.
    Source: Miettinen 1968, Connor 1987; with the design effect of the copies.
    """
    if not gain.sum():
        return None
    without_one, with_one = np.sqrt((gain**2).mean()), gain.std()
    n = ((Z * without_one + Z_POWER * with_one) / gain.mean()) ** 2
    return math.ceil(n * len(gain) / count_by_groups(gain, groups))


def find_changed(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """List the images whose answer differs, those first of which both answers were sure.

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
    """Count the changed answers of each class that has any, the classes that lost or gained most first.

    Args:
        changed: as `find_changed` lists them.
    Returns:
        A dict a class: name, n_images, and the number of each of KINDS.
    """
    counts = pd.crosstab(changed["label"], changed["kind"]).reindex(columns=list(KINDS), fill_value=0)
    net, n_images = (counts["gained"] - counts["lost"]).abs(), np.bincount(labels)
    order = sorted(counts.index, key=lambda it: (-net[it], -counts.loc[it].sum(), it))
    return [
        {"name": class_names[it], "n_images": int(n_images[it]), **{kind: int(counts[kind][it]) for kind in KINDS}}
        for it in order
    ]
