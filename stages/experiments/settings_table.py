"""Runs with the same settings but for their seed are one row: mean and standard deviation of a model's scores."""

from typing import Any

import pandas as pd

from stages.experiments.runs import COLUMNS
from stages.scoring.best_set import find_behind

SEED = "seed"
SMALLER_IS_BETTER = ("loss", "ece")


def tabulate(runs: pd.DataFrame, model: str, score: str = "accuracy", param: str | None = None) -> pd.DataFrame:
    """Return a model's scores under each choice of the parameters that vary, the best on the validation split first.

    Args:
        runs: of `read_runs`.
        param: the one parameter to compare by, among the runs in which all else is as in the first; None: all that
            vary. Seeds are never told apart. A model that the parameter does not concern has no rows.
    Returns:
        Columns val and seed (lists, a score a seed), n_seeds, val_mean, val_deviation (NaN of one seed), behind
        (whether more than noise is between it and the best row), runs (their names). The index has the model, and a
        level for each parameter.
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
    if SEED not in known:
        known = known.assign(seed=range(len(known)))
    table = known.groupby(["model", *settings], sort=False).agg(
        val=("val", list),
        seed=(SEED, list),
        n_seeds=("val", "size"),
        val_mean=("val", "mean"),
        val_deviation=("val", "std"),
        runs=("run", " ".join),
    )
    sign = -1 if score in SMALLER_IS_BETTER else 1
    pairs = zip(table["seed"], table["val"], strict=True)
    rows = [{seed: sign * val for seed, val in zip(seeds, vals, strict=True)} for seeds, vals in pairs]
    table["behind"] = find_behind(rows) if rows else []
    return table.sort_values("val_mean", ascending=sign < 0, kind="stable")


def list_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters' values of a table's rows, a column for each."""
    return table.index.to_frame().drop(columns="model")


def write_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
