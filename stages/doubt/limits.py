"""limits.json, which tells `predict` when not to answer: the limit of the distance, and the calibration of the sets.

It has the limits of the ensemble and of each member alone. All are fitted on the validation split.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from stages.doubt.novelty import find_limit
from stages.doubt.sets import Calibration, calibrate_sets, measure_sets
from stages.runtime.files import write_json
from stages.runtime.validation import read_json
from stages.scoring.cross_fitting import cross_fit
from stages.scoring.predictions import Predictions
from stages.scoring.voting import LogarithmicPool


@dataclass(frozen=True)
class Limits:
    """Limits of one classifier: for distances (99 % of the validation pictures do not exceed it) and for sets."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    distance: Annotated[float, Field(gt=0)]
    sets: Calibration


@dataclass(frozen=True)
class LimitsFile:
    """The limits of the ensemble, whose distance is in units of its members' limits, and of each member alone."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    vote: Limits
    members: dict[str, Limits]


def fit_limits(
    members: Mapping[str, Predictions], of_vote: Predictions, distances: np.ndarray, weights: np.ndarray, seed: int
) -> LimitsFile:
    """Fit the limits of the ensemble, and of each member that answers alone, at its temperature.

    Args:
        of_vote: predictions of the ensemble, cross-fitted on the validation split.
        distances: from the validation pictures to the training pictures, float, shape (n_models, n_images).
        weights: float, shape (n_models,).
        seed: for the folds that cross-fit the temperatures of the members.
    """
    labels, groups = of_vote.val_labels, of_vote.val_groups

    def limit(its_distances: np.ndarray, probabilities: np.ndarray) -> Limits:
        return Limits(find_limit(its_distances), calibrate_sets(probabilities, labels, groups))

    alone = {
        name: limit(row, cross_fit(LogarithmicPool, member.val_probabilities[None], labels, groups, seed))
        for (name, member), row in zip(members.items(), distances, strict=True)
    }
    return LimitsFile(limit(pool_distances(distances, alone.values(), weights), of_vote.val_probabilities), alone)


def pool_distances(distances: np.ndarray, limits: Iterable[Limits], weights: np.ndarray) -> np.ndarray:
    """Return the distances of an ensemble: the weighted mean over the members, each in units of its limit.

    Args:
        distances: float, shape (n_models, n_images).
        weights: float, shape (n_models,).
    Returns:
        float64, shape (n_images,).
    """
    units = np.array([each.distance for each in limits])
    return np.average(distances / units[:, None], axis=0, weights=weights)


def measure_limits(
    limits: LimitsFile, of_vote: Predictions, distances: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Measure the limits on the test split.

    Args:
        distances: float, shape (n_models, n_images).
    Returns:
        sets, from `measure_sets`; unlike, the share of the pictures beyond the limit of the ensemble.
    """
    sets = measure_sets(limits.vote.sets, of_vote.test_probabilities, of_vote.test_labels, of_vote.test_groups)
    beyond = pool_distances(distances, limits.members.values(), weights) > limits.vote.distance
    return {"sets": sets, "unlike": round(float(beyond.mean()), 6)}


def write_limits(path: Path, limits: LimitsFile) -> None:
    """Write the limits, to the last bit."""
    write_json(path, asdict(limits))


def read_limits(path: Path) -> LimitsFile | None:
    """Read the limits; None: the file does not exist.

    Raises:
        UserError: the file is truncated, or another version wrote it.
    """
    remedy = "get the file again with its models, check out the revision that wrote it, or run `dvc repro ensemble`"
    return read_json(path, LimitsFile, "limits of an ensemble and its members", remedy) if path.is_file() else None
