"""Runs with the same settings but for their seed are one row: mean and standard deviation of a model's scores."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev, variance
from typing import Any

from stages.experiments.runs import VOTE, Run, list_concerned

SEED = "seed"
SMALLER_IS_BETTER = ("loss", "ece")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """A model's scores under one choice of the parameters that vary; one value a seed."""

    settings: dict[str, Any]
    val: list[float]
    test: list[float]
    runs: list[str]

    @property
    def mean(self) -> float:
        return fmean(self.val)


def list_rows(runs: list[Run], model: str, score: str = "accuracy", param: str | None = None) -> list[Row]:
    """Return a model's rows, the best on the validation split first.

    Args:
        param: the one parameter to compare by, among the runs in which all else is as in the first; None: all that
            vary. Seeds are never told apart. A model that the parameter does not concern has no rows.
    """
    known = [(run, list_concerned(model, run.params)) for run in runs if model in run.scores]
    keys = list(dict.fromkeys(key for _, params in known for key in params))
    varying = [key for key in keys if len({repr(params.get(key)) for _, params in known}) > 1]
    if param and param not in varying:
        return []
    if param:
        others = [key for key in varying if key not in (param, SEED)]
        known = [each for each in known if all(each[1].get(key) == known[0][1].get(key) for key in others)]
    # the same settings of this model in two runs that differ in what it does not read: one training, counted once
    distinct: dict[str, tuple[Run, dict[str, Any]]] = {}
    for run, params in known:
        distinct.setdefault(repr([params.get(key) for key in varying]), (run, params))
    groups: dict[str, Row] = {}
    for run, params in distinct.values():
        settings = {key: params.get(key) for key in ([param] if param else varying) if key != SEED}
        row = groups.setdefault(repr(settings), Row(settings, [], [], []))
        row.val.append(run.scores[model]["val"][score])
        row.test.append(run.scores[model][score])
        row.runs.append(run.name)
    return sorted(groups.values(), key=lambda row: row.mean if score in SMALLER_IS_BETTER else -row.mean)


def list_models(runs: list[Run]) -> list[str]:
    """Return the models that were scored, in the order of the parameters, and the vote last."""
    found = dict.fromkeys(model for run in runs for model in run.scores if model != VOTE)
    return [*found, *([VOTE] if any(VOTE in run.scores for run in runs) else [])]


def spread(rows: list[Row]) -> tuple[float, int]:
    """Return the standard deviation over seeds, common to all rows, and its degrees of freedom (0: one seed each)."""
    several = [row.val for row in rows if len(row.val) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(variance(values) * (len(values) - 1) for values in several)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def compare_with_best(rows: list[Row]) -> Iterator[tuple[Row, float, bool]]:
    """Yield each other row, how far its mean is from that of the best, and whether the seeds' spread explains it not.

    Source: Student's t-test with the rows' common variance, two-sided at 95 %; each comparison for itself.
    """
    from scipy.stats import t

    deviation, freedom = spread(rows)
    for row in rows[1:]:
        difference = row.mean - rows[0].mean
        error = deviation * math.sqrt(1 / len(row.val) + 1 / len(rows[0].val))
        exceeds = bool(freedom) and abs(difference) > t.ppf(0.5 + CONFIDENCE / 2, freedom) * error
        yield row, difference, exceeds


def deviation_of(values: list[float]) -> float:
    """Return the standard deviation of the seeds; of one there is none."""
    return stdev(values) if len(values) > 1 else math.nan
