"""When not to answer, kept beside the vote: how far a picture may be, and what calibrates sets of classes.

Of the vote, and of each member alone. All of it is fitted to the validation split.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from stages.doubt.novelty import find_limit
from stages.doubt.sets import Calibration, calibrate_sets, measure_sets
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.validation import describe_faults
from stages.scoring.cross_fitting import cross_fit
from stages.scoring.predictions import Predictions
from stages.scoring.voting import LogarithmicPool


@dataclass(frozen=True)
class Limits:
    """Of one who answers: the distance within which 99 % of validation pictures are, and what calibrates its sets."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    distance: Annotated[float, Field(gt=0)]
    sets: Calibration


@dataclass(frozen=True)
class LimitsFile:
    """The limits of the vote, whose distance is in units of its members' limits, and of each member alone."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    vote: Limits
    members: dict[str, Limits]


def fit_limits(
    members: Mapping[str, Predictions], of_vote: Predictions, distances: np.ndarray, weights: np.ndarray, seed: int
) -> LimitsFile:
    """Fit the limits of the vote, and those of each member, which answers alone at its temperature.

    Args:
        of_vote: what it says; of the validation pictures cross-fitted.
        distances: of the validation pictures to the training pictures, float, shape (n_models, n_images).
        weights: of the members, float, shape (n_models,).
        seed: of the folds in which the members' temperatures are cross-fitted.
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
    """Return a vote's distances: the mean of its members', each in units of its limit.

    Args:
        distances: float, shape (n_models, n_images).
        weights: float, shape (n_models,); a member without weight does not count.
    Returns:
        float64, shape (n_images,).
    """
    units = np.array([each.distance for each in limits])
    return np.average(distances / units[:, None], axis=0, weights=weights)


def measure_limits(
    limits: LimitsFile, of_vote: Predictions, distances: np.ndarray, weights: np.ndarray
) -> dict[str, Any]:
    """Return what becomes of the test pictures.

    Args:
        distances: float, shape (n_models, n_images).
    Returns:
        sets, as `measure_sets` has it; unlike, the share of the pictures beyond the vote's distance.
    """
    sets = measure_sets(limits.vote.sets, of_vote.test_probabilities, of_vote.test_labels, of_vote.test_groups)
    beyond = pool_distances(distances, limits.members.values(), weights) > limits.vote.distance
    return {"sets": sets, "unlike": round(float(beyond.mean()), 6)}


def write_limits(path: Path, limits: LimitsFile) -> None:
    """Write the limits of the vote and of each member, to the last bit."""
    write_json(path, asdict(limits))


def read_limits(path: Path) -> LimitsFile | None:
    """Return what `write_limits` wrote; None: there is no such file.

    Raises:
        UserError: the file is cut short, or another version has written it.
    """
    if not path.is_file():
        return None
    try:
        return TypeAdapter(LimitsFile).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        fault = describe_faults(error)
    except ValueError as error:
        fault = f"no JSON ({error})"
    raise UserError(
        f"{path}: expected when not to answer, as this clone of Quintet writes it, found {fault}; get it again with "
        "its models, check out the revision that has written it, or run `dvc repro ensemble`"
    )
