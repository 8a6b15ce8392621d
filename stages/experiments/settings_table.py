"""Runs that differ only in their seed form one row: mean and standard deviation of a model's scores."""

from typing import Any

import pandas as pd

from stages.experiments.runs import COLUMNS
from stages.scoring.best_set import find_behind

SEED = "seed"
SMALLER_IS_BETTER = ("loss", "ece")


def tabulate(runs: pd.DataFrame, model: str, score: str = "accuracy", param: str | None = None) -> pd.DataFrame:
    """Return the scores of a model for each setting of the varying parameters, best validation score first.

    Args:
        runs: as from `read_runs`.
        param: compare by this parameter only, among the runs that otherwise equal the first one; None: by all varying
            parameters. Seeds are never distinguished. A model that the parameter does not affect has no rows.
    Returns:
        Columns val and seed (lists, one score per seed), n_seeds, val_mean, val_deviation (NaN for one seed), behind
        (worse than the best row by more than noise), runs (names). The index has the model and a level for each
        parameter.
    """
    known = runs[runs["model"] == model]
    keys = known.columns.drop(COLUMNS)
    varying = [key for key in keys if known[key].nunique() > 1]
    settings = [key for key in varying if key != SEED]
    if param:
        others = known[[key for key in settings if key != param]]
        known = known[(others == others.iloc[0]).all(axis="columns")] if param in varying else known[:0]
        settings = [param] if param != SEED else []
    # runs that differ only in what this model does not use are one training, counted once
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
    """Return the parameter values of the rows of a table, one column per parameter."""
    return table.index.to_frame().drop(columns="model")


def write_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
