"""How unlike the training pictures a picture is: a distance in the features of a network, and its limit.

The distance is the Mahalanobis distance to the nearest class. The model of the features is one Gaussian per class, with
a covariance that all classes share: N_DIRECTIONS principal directions, and one variance for all other directions.

Source: Lee et al. 2018, A simple unified framework for detecting out-of-distribution samples; the covariance is that of
    probabilistic principal components, Tipping and Bishop 1999. benchmarks/novelty.py compares it with nearest
    neighbours and with the maximum probability.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from stages.runtime.errors import UserError
from stages.runtime.files import written_whole

N_REFERENCE = 2000  # training pictures at most, which limits the time
N_DIRECTIONS = 128
KEPT = 0.99  # share of the validation pictures within the limit
TINY = 1e-9


@dataclass(frozen=True)
class Cloud:
    """The distribution of the features of the training pictures."""

    centres: np.ndarray  # float16, (n_classes, n_features)
    directions: np.ndarray  # float16, (n_features, n_directions), scaled: distances along them count less
    variance: np.ndarray  # float64, shape (): in all other directions
    layers: np.ndarray  # names of the layers that give the features
    head: np.ndarray  # str, shape (): the hash of the network (stages.networks.maps.identify_head)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return the distances to the nearest class, float32 (n_images,), of features (n_images, n_features)."""
        centres, directions = self.centres.astype(np.float32), self.directions
        middle = centres.mean(axis=0)  # differences of small numbers keep more digits
        features, centres = features - middle, centres - middle
        apart = _squared_distances(features, centres) - _squared_distances(features @ directions, centres @ directions)
        return np.sqrt(np.maximum(apart.min(axis=1), 0) / (self.variance * features.shape[1])).astype(np.float32)


def find_limit(distances: np.ndarray) -> float:
    """Return the smallest distance that at least KEPT of these pictures do not exceed."""
    return float(max(np.quantile(distances, KEPT, method="higher"), TINY))


def _squared_distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T


def choose_reference(labels: np.ndarray) -> np.ndarray:
    """Return the rows of the training pictures to use, with equal numbers from all classes as far as possible.

    Args:
        labels: int, shape (n_images,).
    Returns:
        int, sorted, shape (min(n_images, N_REFERENCE),).
    """
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    turn = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[by_class]]  # rank of each picture in its class
    return np.sort(by_class[np.argsort(turn, kind="stable")][:N_REFERENCE])


def fit_cloud(features: np.ndarray, labels: np.ndarray, layers: list[str], head: str) -> Cloud:
    """Fit the centres of the classes and the shared covariance.

    Args:
        features: float, shape (n_images, n_features).
        labels: int, shape (n_images,).
        layers: names of the layers that give the features.
        head: the hash of the network.
    """
    names, which = np.unique(labels, return_inverse=True)
    centres = np.stack([features[which == number].mean(axis=0) for number in range(len(names))], dtype=float)
    # with one picture per class, the spread within a class is unknown: treat all as one class
    rest = features - (centres[which] if len(features) > len(names) else centres.mean(axis=0))
    n_free, n_features = max(len(features) - len(names), 1), features.shape[1]
    n_directions = min(N_DIRECTIONS, n_free - 1, n_features - 1)
    variances, directions = find_directions(rest, n_directions)
    variances /= n_free
    spare = max((rest**2).sum() / n_free - variances.sum(), TINY) / (n_features - n_directions)
    weights = np.sqrt(1 - spare / np.maximum(variances, spare))
    axes = (directions * weights).astype(np.float16)
    return Cloud(centres.astype(np.float16), axes, np.array(spare), np.array(layers), np.array(head))


def find_directions(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the n principal directions: sums of squares (n,) and unit vectors (n_features, n).

    It decomposes the smaller of the two product matrices, which have the same eigenvalues.
    """
    if len(rows) >= rows.shape[1]:
        lengths, vectors = np.linalg.eigh(rows.T @ rows)
    else:
        lengths, vectors = np.linalg.eigh(rows @ rows.T)
        vectors = rows.T @ vectors
    largest = np.argsort(-lengths, kind="stable")[:n]
    vectors = vectors[:, largest]
    return np.maximum(lengths[largest], 0), vectors / np.maximum(np.linalg.norm(vectors, axis=0), TINY)


def write_cloud(path: Path, cloud: Cloud) -> None:
    """Write the file atomically; the same cloud gives the same bytes."""
    with written_whole(path) as temporary:
        np.savez(temporary, **asdict(cloud))


def read_cloud(path: Path) -> Cloud | None:
    """Read a cloud; None: the file does not exist.

    Raises:
        UserError: the file is truncated, or another version wrote it.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            return Cloud(**arrays)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{path}: expected arrays {', '.join(Cloud.__dataclass_fields__)}, found {error!s:.100}; get it again with "
            f"its model, or run `dvc repro`"
        ) from None


class Distances(NamedTuple):
    """Distances of the validation and the test images, each float32, (n_images,)."""

    val: np.ndarray
    test: np.ndarray


def write_distances(path: Path, distances: Distances) -> None:
    """Write the file atomically; the same distances give the same bytes."""
    with written_whole(path) as temporary:
        np.savez(temporary, **distances._asdict())


def read_distances(folder: Path, names: Iterable[str]) -> Distances:
    """Read the distances of several models, (n_models, n_images), in this order."""
    members = []
    for name in names:
        with np.load(folder / f"{name}.npz") as arrays:
            members.append((arrays["val"], arrays["test"]))
    return Distances(*map(np.stack, zip(*members, strict=True)))
