"""The confusion matrix as a table, and the pairs of classes that are confused most."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def confusion_frame(labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str]) -> pd.DataFrame:
    """Count the predictions of each class for each actual class.

    Args:
        labels, predictions: int, shape (n_images,); positions in `class_names`.
    Returns:
        int, shape (n_classes, n_classes); index = actual class, columns = predicted class.
    """
    counts = np.zeros((len(class_names), len(class_names)), dtype=np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return pd.DataFrame(counts, index=pd.Index(class_names, name="actual"), columns=class_names)


def confused_pairs(frame: pd.DataFrame, n: int) -> pd.DataFrame:
    """List the pairs of classes that are confused most often, in either direction.

    Args:
        frame: as from `confusion_frame`.
        n: largest number of pairs; pairs without confusions are left out.
    Returns:
        Columns actual, predicted, count (images of `actual` predicted as `predicted`), back (the other direction, never
        more), n_actual, n_predicted (images of each). Most mistakes first, then the larger share of `actual`, then the
        order of the classes.
    """
    counts = frame.to_numpy()
    n_images = counts.sum(axis=1)
    one, other = np.triu_indices(len(counts), k=1)
    turned = counts[other, one] > counts[one, other]
    one, other = np.where(turned, other, one), np.where(turned, one, other)
    there, back = counts[one, other], counts[other, one]
    order = np.lexsort((-there / np.maximum(n_images[one], 1), -(there + back)))[: min(n, np.count_nonzero(there))]
    one, other = one[order], other[order]
    return pd.DataFrame(
        {
            **{"actual": frame.index[one], "predicted": frame.columns[other]},
            **{"count": there[order], "back": back[order], "n_actual": n_images[one], "n_predicted": n_images[other]},
        }
    )
