"""The runs that `dvc exp show --json` lists: what each was run with, and how its models and its vote scored."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

VOTE = "ensemble"
METRICS = re.compile(r"(?:^|/)metrics/(?:models/(?P<model>.+)|ensemble)\.json$")


@dataclass(frozen=True)
class Run:
    """A commit or an experiment.

    Args:
        params: the leaves of all parameter files, `models.cnn.lr`; another file's are `path:key`, as `-S` has them.
        scores: {model: its metrics file}; the vote is "ensemble".
    """

    name: str
    params: dict[str, Any]
    scores: dict[str, dict[str, Any]]


def read_runs(shown: list[dict[str, Any]], score: str = "accuracy") -> tuple[list[Run], list[str]]:
    """Return the finished runs with different parameters, and the names of those that have no such score.

    The workspace is left out: it is a commit, an experiment, or half of one.
    """
    runs: dict[str, Run] = {}
    unfinished = []
    for name, state, is_finished in _list_states(shown):
        files = (state.get("data") or {}).get("params") or {}
        params = dict(_flatten({path: file.get("data") or {} for path, file in files.items()}))
        scores = dict(_find_scores((state.get("data") or {}).get("metrics") or {}, score))
        if scores and is_finished:
            runs.setdefault(repr(sorted(params.items())), Run(name, params, scores))
        else:
            unfinished.append(name)
    return list(runs.values()), unfinished


def _list_states(shown: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    for commit in shown:
        if commit["rev"] != "workspace":
            yield commit.get("name") or commit["rev"][:7], commit, True
        for experiment in commit.get("experiments") or []:
            state, executor = experiment["revs"][0], experiment.get("executor") or {"state": "success"}
            # one that failed, or runs, is listed with the scores of the commit that it began from
            yield experiment.get("name") or state["rev"][:7], state, executor["state"] == "success"


def _flatten(files: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict) and value:
            for name, part in value.items():
                yield from leaves(part, f"{key}.{name}" if key else str(name))
        else:
            yield key, str(value) if isinstance(value, list | dict) else value

    for path, values in files.items():
        prefix = "" if path == "params.yaml" else f"{path}:"
        yield from ((prefix + key, value) for key, value in leaves(values, ""))


def _find_scores(metrics: dict[str, dict[str, Any]], score: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, file in metrics.items():
        if (found := METRICS.search(path)) and score in (file.get("data") or {}).get("val", {}):
            yield found["model"] or VOTE, file["data"]


def list_concerned(model: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that a model's scores can depend on: not those of others, unless it starts from one."""
    if model == VOTE:
        return params
    chain, start = [], model
    while start and start not in chain:
        chain.append(start)
        weights = str(params.get(f"models.{start}.weights", ""))
        start = next(iter(re.findall(r"^data/models/(.+)\.safetensors$", weights)), "")
    mine = tuple(f"models.{name}." for name in chain)
    unread = ("ensemble.", "models.")  # of the vote, and of the other models
    return {key: value for key, value in params.items() if key.startswith(mine) or not key.startswith(unread)}
