"""The table of a sweep: its rows, its ranking, and which differences are more than noise."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.experiments import sweep
from stages.experiments.runs import read_runs
from stages.experiments.settings_table import list_settings, tabulate
from stages.runtime.errors import UserError

LR = "models.cnn.lr"
MEANS = {0.01: 0.8, 0.1: 0.7805, 1.0: 0.7795}  # {rate: mean}


def state(name: str, cnn: float, seed: int = 1, lr: float = 0.01, vgg16: dict | None = None, test: float = 0.5) -> dict:
    """Return a commit as `dvc exp show` lists it: the validation scores of two models, and their parameters."""
    params = {"seed": seed, "models": {"cnn": {"lr": lr}, "vgg16": {"lr": 0.1, **(vgg16 or {})}}}
    metrics = {
        f"metrics/models/{model}.json": {"data": {"accuracy": test, "val": {"accuracy": score}}}
        for model, score in (("cnn", cnn), ("vgg16", 0.5))
    }
    metrics["metrics/dataset.json"] = {"data": {"n_images": 3}}
    return {"rev": name * 9, "name": name, "data": {"params": {"params.yaml": {"data": params}}, "metrics": metrics}}


def shown(*states: dict) -> list[dict]:
    """Return a listing of a baseline and experiments on it, as DVC writes it."""
    first, *others = states
    experiments = [{"name": each["name"], "revs": [each]} for each in others]
    return [{**first, "rev": "workspace"}, {**first, "experiments": experiments}]


def table_of(*states: dict, model: str = "cnn", param: str | None = None) -> pd.DataFrame:
    return tabulate(read_runs(shown(*states))[0], model, param=param)


def runs_of(table: pd.DataFrame) -> list[str]:
    return table["runs"].tolist()


def test_runs_that_differ_in_the_seed_alone_are_one_row_and_val_ranks_it_not_test():
    table = table_of(
        state("a", 0.6, test=0.9),
        state("b", 0.8, seed=2, test=0.9),
        state("c", 0.75, lr=0.1, test=0.1),
        state("d", 0.77, lr=0.1, seed=2, test=0.1),
    )
    assert list_settings(table)[LR].tolist() == [0.1, 0.01]
    assert runs_of(table) == ["c d", "a b"]
    # 0.1 to both sides, one degree of freedom
    np.testing.assert_allclose(table[["val_mean", "val_deviation"]].iloc[1], [0.7, 0.02**0.5], rtol=0, atol=1e-12)


def test_a_run_that_is_listed_twice_or_differs_in_another_model_alone_counts_once():
    states = (state("a", 0.6), state("b", 0.6), state("c", 0.6, vgg16={"lr": 0.3}), state("d", 0.7, lr=0.1))
    assert runs_of(table_of(*states)) == ["d", "a"]


def test_by_one_parameter_only_runs_are_compared_that_are_else_as_the_first():
    states = (state("a", 0.6), state("b", 0.7, lr=0.1), state("c", 0.8, seed=2), state("d", 0.9, vgg16={"lr": 1.0}))
    assert runs_of(table_of(*states, param="seed")) == ["a c"]
    assert runs_of(table_of(*states, model="vgg16", param="models.vgg16.lr")) == ["a c", "d"]
    assert runs_of(table_of(*states, model="vgg16", param=LR)) == []


def test_a_model_that_starts_from_another_varies_with_the_parameters_of_that_one():
    start = {"weights": "data/models/cnn.safetensors"}
    table = table_of(state("a", 0.6, vgg16=start), state("b", 0.6, vgg16=start, lr=0.1), model="vgg16")
    assert list_settings(table).to_dict("list") == {LR: [0.01, 0.1]}


def test_a_run_without_scores_is_named_and_left_out():
    broken = {"rev": "e" * 9, "name": "e", "data": None, "error": {"msg": "unreadable"}}
    listed = shown(state("a", 0.6), broken, *(state(name, 0.6, lr=lr) for name, lr in (("f", 0.1), ("g", 0.2))))
    for experiment, its_state in zip(listed[1]["experiments"][1:], ("failed", "success"), strict=True):
        experiment["executor"] = {"state": its_state}
    runs, unfinished = read_runs(listed)
    assert (runs["run"].unique().tolist(), unfinished) == (["a", "g"], ["e", "f"])
    runs, unfinished = read_runs(listed, "top5")
    assert (len(runs), unfinished) == (0, ["a", "e", "f", "g"])


def test_rows_are_behind_the_best_one_if_more_than_noise_is_between_them():
    # three seeds shift all rows equally, except for 0.001; the rates differ much more
    states = [
        state(f"{lr}{seed}", mean + 0.01 * seed + 0.001 * (seed == 2 and lr == 1.0), seed, lr)
        for lr, mean in MEANS.items()
        for seed in (1, 2, 3)
    ]
    assert table_of(*states)["behind"].tolist() == [False, True, True]
    assert not table_of(*states[::3])["behind"].any()  # with one seed each, noise is unknown


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", *arguments, "--out", str(folder)])
    sweep.main()


def test_every_kind_of_sweep_gives_a_table_and_a_figure(tmp_path, monkeypatch):
    states = {
        "rates": [state("a", 0.6), state("b", 0.7, lr=0.1)],
        "seeds": [state("a", 0.6), state("b", 0.7, seed=2)],
        "several": [state("a", 0.6), state("b", 0.7, lr=0.1, vgg16={"weights": "data/models/cnn.safetensors"})],
        "words": [state("a", 0.6), state("b", 0.7, vgg16={"optimizer": "sgd", "lr": 0.1})],
    }
    for name, listed in states.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(shown(*listed)), encoding="utf-8")
        run(monkeypatch, tmp_path / name, str(tmp_path / f"{name}.json"))
        assert (tmp_path / name / "sweep.png").stat().st_size > 0
    with (tmp_path / "rates/sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["settings"], row["val_mean"], row["runs"]) for row in rows] == [
        ("cnn", "models.cnn.lr=0.1", "0.700000", "b"),
        ("cnn", "models.cnn.lr=0.01", "0.600000", "a"),
    ]


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("no JSON", [], "shown.json"),
        (json.dumps(shown(state("a", 0.6))), [], "differ in a parameter"),
        (json.dumps(shown(state("a", 0.6))), ["--param", "models.cnn.rate"], "--param"),
        (json.dumps(shown(state("a", 0.6))), ["--param", "val"], "--param"),
    ],
)
def test_what_is_no_sweep_is_refused(text, arguments, expected, tmp_path, monkeypatch):
    (tmp_path / "shown.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        run(monkeypatch, tmp_path, str(tmp_path / "shown.json"), *arguments)
