"""The stage `ensemble`: its members, and that overfitting does not raise its scores."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stages import ensemble
from stages.doubt.limits import read_limits
from stages.doubt.novelty import Distances, write_distances
from stages.ensemble import shorten
from stages.runtime.errors import UserError
from stages.scoring.predictions import Predictions, write_predictions
from stages.scoring.voting import VOTES

LABELS = np.array([0, 1, 0, 1, 1])
NAMES = ["zinnia", "a", "m", "b", "c"]  # in the order of the parameters


def remember(image: int) -> np.ndarray:
    """Return probabilities of a member that is certain and right on one image, and wrong (0.7 to 0.3) on the others."""
    right = np.full(5, 0.3, np.float32)
    right[image] = 1
    probabilities = np.empty((5, 2), np.float32)
    probabilities[np.arange(5), LABELS], probabilities[np.arange(5), 1 - LABELS] = right, 1 - right
    return probabilities


def predict(image: int, copies: int = 1) -> Predictions:
    split = remember(image).repeat(copies, axis=0), LABELS.repeat(copies), np.arange(5).repeat(copies)
    return Predictions(*split, *split, np.array(["no", "yes"]))


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, voting: str, names: Sequence[str] = NAMES, copies: int = 1
) -> dict:
    for image, name in enumerate(names):
        write_predictions(folder / "predictions" / f"{name}.npz", predict(image, copies))
        distances = np.arange(5.0).repeat(copies) + image
        write_distances(folder / "distances" / f"{name}.npz", Distances(distances, 2 * distances))
    recipe = SimpleNamespace(seed=1, models=dict.fromkeys(names), ensemble=SimpleNamespace(voting=voting))
    monkeypatch.setattr(ensemble, "read_params", lambda path: recipe)
    names = (
        "predictions",
        "distances",
        "vote.json",
        "limits.json",
        "vote.npz",
        "ensemble.json",
        "comparison.json",
        "ensemble",
    )
    arguments = [folder / name for name in names]
    monkeypatch.setattr("sys.argv", ["ensemble", *map(str, arguments)])
    ensemble.main()
    return json.loads((folder / "ensemble.json").read_text())


def test_val_scores_of_a_fitted_vote_are_those_of_images_that_it_was_not_fitted_to(tmp_path, monkeypatch):
    # Fitted to all five images, the ensemble is right on each: temperatures of 10 make wrong answers 0.52 to 0.48, and
    # the member that remembers the image decides. Fitted to the four others, the member that remembers the fifth has no
    # weight, because it is wrong on all four; and the other members are wrong on the fifth.
    # Each image has copies, so that the prior hardly counts; they are a group and stay in one fold.
    scores = run(monkeypatch, tmp_path, "linear_pool", copies=300)
    assert scores["val"]["accuracy"] == 0
    assert scores["accuracy"] == 1  # the test images are the same here, and the vote is fitted to them all
    assert list(scores["weights"].values()) == pytest.approx([0.2] * 5, abs=1e-5)


def test_val_scores_of_an_equal_vote_are_plain(tmp_path, monkeypatch):
    scores = run(monkeypatch, tmp_path, "equal")
    # on each image one member gives the right class 1, and four give it 0.3: 2.2 / 5 = 0.44
    assert scores["val"]["loss"] == pytest.approx(-math.log(0.44), abs=1e-6)
    assert scores["weights"] == dict.fromkeys(NAMES, 0.2)
    table = pd.read_csv(tmp_path / "ensemble" / "answers.csv")
    assert table["actual"].tolist() == ["no", "yes", "no", "yes", "yes"]
    assert table["predicted"].tolist() == ["yes", "no", "yes", "no", "no"]  # 0.44 for the right one


def test_the_parameters_alone_say_who_votes_and_in_which_order(tmp_path, monkeypatch):
    left = [tmp_path / folder / "removed.npz" for folder in ("predictions", "distances")]
    for path in left:
        path.parent.mkdir()
        path.write_text("of a model that was taken out")
    scores = run(monkeypatch, tmp_path, "equal")
    assert not any(path.exists() for path in left)
    assert list(scores["weights"]) == NAMES
    assert scores["best_member"] == "zinnia"  # all are right on one image of five: the first member wins


@pytest.mark.parametrize("voting", VOTES)
def test_the_vote_is_the_one_asked_for_and_all_are_shown_by_the_validation_split(tmp_path, monkeypatch, voting):
    scores = run(monkeypatch, tmp_path, voting)
    assert scores["voting"] == voting
    votes = read_comparison(tmp_path)["votes"]
    assert votes.keys() == VOTES.keys()
    assert votes[voting] == {name: scores["val"][name] for name in ("accuracy", "loss")}


def test_limits_are_of_the_vote_and_of_every_member_and_what_they_do_to_test_images_is_told(tmp_path, monkeypatch):
    scores = run(monkeypatch, tmp_path, "equal")
    limits = read_limits(tmp_path / "limits.json")
    assert {name: each.distance for name, each in limits.members.items()} == dict(
        zip(NAMES, [4, 5, 6, 7, 8], strict=True)
    )
    # an image's distance is the mean of its members', in units of their limits; the fifth is at 1 of each
    assert limits.vote.distance == 1
    # of the test images, which are twice as far, the third is at the mean of 4/4, 6/5, 8/6, 10/7 and 12/8
    assert scores["unlike"] == 0.6
    assert limits.vote.sets.n_groups == 5
    assert scores["sets"] == {}  # 90 % would need nine images
    assert [row["share"] for row in read_comparison(tmp_path)["selection"]["surest"]] == [1, 1, 1, 1]  # equally sure


def read_comparison(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())


def test_the_comparison_is_of_every_member_and_the_ensemble(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, "linear_pool", copies=2)
    comparison, names = read_comparison(tmp_path), [*NAMES, "ensemble"]
    for part in ("intervals", "agreement", "calibration"):
        assert list(comparison[part]) == names
    pairs = [(pair["a"], pair["b"]) for pair in comparison["pairs"]]
    assert pairs[:5] == [("ensemble", name) for name in NAMES]
    assert sorted(map(sorted, pairs)) == sorted(sorted(pair) for pair in combinations(names, 2))
    # the ensemble is right on all five test images, each member on one: 4 of 4 discordant, 2 / 2 ** 4; fifteen pairs
    assert [pair["mcnemar_p"] for pair in comparison["pairs"][:5]] == [0.125] * 5
    assert comparison["pairs"][0]["holm_p"] == 1
    # five groups that are all right: Wilson's interval is from 1 / (1 + 1.96 ** 2 / 5) to 1
    assert comparison["intervals"]["ensemble"]["accuracy"] == pytest.approx([0.565518, 1], abs=2e-6)
    assert (comparison["n_images"], comparison["n_groups"]) == (10, 5)
    assert comparison["agreement"]["zinnia"]["a"] == 0.6  # wrong on three together, and there are two classes
    # the equal vote gives the right class 0.44: none is right
    over_equal = comparison["over_equal"]
    assert (over_equal["accuracy_difference"], over_equal["high"], over_equal["mcnemar_p"]) == (1, 1, 0.0625)


def test_what_a_member_costs_is_what_the_vote_loses_without_it(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, "equal")
    without = read_comparison(tmp_path)["without"]
    assert list(without) == NAMES
    # the image that the member remembers has 0.3, the four others (1 + 3 * 0.3) / 4 = 0.475 instead of 0.44
    loss = -(math.log(0.3) + 4 * math.log(0.475)) / 5
    expected = {"accuracy": 0, "loss": loss, "accuracy_lost": 0, "loss_gained": loss + math.log(0.44)}
    assert without["m"] == pytest.approx(expected, abs=2e-6)


def test_one_member_is_compared_with_its_vote_and_cannot_be_left_out(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, "equal", ["cnn"])
    comparison = read_comparison(tmp_path)
    assert comparison["without"] == {}
    assert [(pair["a"], pair["b"], pair["mcnemar_p"]) for pair in comparison["pairs"]] == [("ensemble", "cnn", 1)]


def test_a_small_p_value_does_not_become_0():
    assert shorten({"p": 4.84e-53, "shares": [1 / 3, 1], "none": 0.0}) == {
        "p": 4.8e-53,
        "shares": [0.333333, 1],
        "none": 0,
    }


def test_predictions_of_another_split_are_refused_and_nothing_is_written(tmp_path, monkeypatch):
    # the labels are the same, because pictures of a class are consecutive, but the groups are not
    other = replace(predict(0), test_groups=np.arange(5) + 1)
    right = [predict(image) for image in range(5)]
    monkeypatch.setattr("tests.test_ensemble.predict", lambda image, copies: other if image == 2 else right[image])
    with pytest.raises(UserError, match="m\\.npz"):
        run(monkeypatch, tmp_path, "equal")
    assert {path.name for path in tmp_path.iterdir()} == {"predictions", "distances"}
