"""The runs in `dvc exp show --json` as a table: parameters, and the scores of models and ensemble."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

VOTE = "ensemble"
METRICS = re.compile(r"(?:^|/)metrics/(?:models/(?P<model>.+)|ensemble)\.json$")
START = re.compile(r"data/models/(.+)\.safetensors")
COLUMNS = ["run", "model", "val"]


def read_runs(shown: list[dict[str, Any]], score: str = "accuracy") -> tuple[pd.DataFrame, list[str]]:
    """Return the finished runs, and the names of runs without this score.

    The workspace is left out: it equals a commit or an experiment, or is unfinished.

    Returns:
        A row for each run and model (the ensemble comes last, as "ensemble"), with COLUMNS and a column for each
        parameter: a leaf of params.yaml such as `models.cnn.lr`, or `path:key` for other files, as in `-S`. Parameters
        that a run lacks, or that cannot affect a model's score, are "None".
    """
    rows, unfinished = [], []
    for name, state, is_finished in _list_states(shown):
        data = state.get("data") or {}
        params: dict[str, Any] = {}
        for path, file in (data.get("params") or {}).items():
            params |= _flatten(file.get("data") or {}, "" if path == "params.yaml" else f"{path}:")
        scores = dict(_find_scores(data.get("metrics") or {}, score)) if is_finished else {}
        rows += [(name, model, val, _select_concerned(model, params)) for model, val in scores.items()]
        if not scores:
            unfinished.append(name)
    rows.sort(key=lambda row: row[1] == VOTE)
    known = pd.DataFrame([row[:3] for row in rows], columns=COLUMNS)
    return known.join(pd.DataFrame([row[3] for row in rows], dtype=object).fillna(str(None))), unfinished


def _list_states(shown: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for commit in shown:
        if commit["rev"] != "workspace":
            yield commit.get("name") or commit["rev"][:7], commit, True
        for experiment in commit.get("experiments") or []:
            state, executor = experiment["revs"][0], experiment.get("executor") or {"state": "success"}
            # failed and running experiments are listed with the scores of their base commit
            yield experiment.get("name") or state["rev"][:7], state, executor["state"] == "success"


def _flatten(block: dict[str, Any], prefix: str) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, dict):
            leaves |= _flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)  # lists, None
    return leaves


def _find_scores(metrics: dict[str, dict[str, Any]], score: str) -> Iterator[tuple[str, float]]:
    for path, file in metrics.items():
        data = file.get("data") or {}
        if (found := METRICS.search(path)) and score in data.get("val", {}):
            yield found["model"] or VOTE, data["val"][score]


def _select_concerned(model: str, params: dict[str, Any]) -> dict[str, Any]:
    """Leave out the parameters of the ensemble and of other models, unless the model starts from one of those."""
    if model == VOTE:
        return params
    chain, start = [], model
    while start and start not in chain:
        chain.append(start)
        found = START.fullmatch(params.get(f"models.{start}.weights", ""))
        start = found[1] if found else ""
    mine = tuple(f"models.{name}." for name in chain)
    return {
        key: value
        for key, value in params.items()
        if key.startswith(mine) or not key.startswith(("ensemble.", "models."))
    }
