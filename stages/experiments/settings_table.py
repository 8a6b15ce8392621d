"""Runs with the same settings but for their seed are one row: mean and standard deviation of a model's scores."""

from typing import Any

import numpy as np
import pandas as pd

from stages.experiments.runs import COLUMNS

SEED = "seed"
SMALLER_IS_BETTER = ("loss", "ece")
CONFIDENCE = 0.95


def tabulate(runs: pd.DataFrame, model: str, score: str = "accuracy", param: str | None = None) -> pd.DataFrame:
    """Return a model's scores under each choice of the parameters that vary, the best on the validation split first.

    Args:
        runs: of `read_runs`.
        param: the one parameter to compare by, among the runs in which all else is as in the first; None: all that
            vary. Seeds are never told apart. A model that the parameter does not concern has no rows.
    Returns:
        Columns val (a list, a score a seed), n_seeds, val_mean, val_deviation (NaN of one seed), test_mean,
        test_deviation, runs (their names). The index has the model, and a level for each parameter.
    """
    known = runs[runs["model"] == model]
    keys = known.columns.drop(COLUMNS)
    varying = [key for key in keys if known[key].nunique() > 1]
    settings = [key for key in varying if key != SEED]
    if param:
        others = known[[key for key in settings if key != param]]
        known = known[(others == others.iloc[0]).all(axis="columns")] if param in varying else known[:0]
        settings = [param] if param != SEED else []
    # two runs that differ in what this model does not read: one training, counted once
    known = known.drop_duplicates(["model", *varying])
    table = known.groupby(["model", *settings], sort=False).agg(
        val=("val", list),
        n_seeds=("val", "size"),
        val_mean=("val", "mean"),
        val_deviation=("val", "std"),
        test_mean=("test", "mean"),
        test_deviation=("test", "std"),
        runs=("run", " ".join),
    )
    return table.sort_values("val_mean", ascending=score in SMALLER_IS_BETTER, kind="stable")


def list_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters' values of a table's rows, a column for each."""
    return table.index.to_frame().drop(columns="model")


def write_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def spread(table: pd.DataFrame) -> tuple[float, int]:
    """Return the standard deviation over seeds, common to all rows, and its degrees of freedom: 0 of one seed each."""
    freedom = table["n_seeds"] - 1
    squares = (table["val_deviation"] ** 2 * freedom).sum()
    return float(np.sqrt(squares / freedom.sum())) if freedom.any() else np.nan, int(freedom.sum())


def exceed_noise(means: np.ndarray, n_seeds: np.ndarray, deviation: float, freedom: int) -> np.ndarray:
    """Say which means are further from the first than the seeds' spread explains.

    Args:
        means, n_seeds: shape (n,); a row's scores, of which the first is compared with.
        deviation, freedom: of `spread`.
    Returns:
        bool, shape (n,); all False where no row has two seeds.
    Source: Student's t-test with the rows' common variance, two-sided at 95 %; each comparison for itself.
    """
    from scipy.stats import t

    if not freedom:
        return np.zeros(len(means), dtype=bool)
    errors = deviation * np.sqrt(1 / n_seeds + 1 / n_seeds[0])
    return np.abs(means - means[0]) > t.ppf(0.5 + CONFIDENCE / 2, freedom) * errors
