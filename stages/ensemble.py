"""Combine the models: each block of `models` is a member, and the ensemble needs only its predictions.

    python -m stages.ensemble PREDICTIONS DISTANCES VOTE LIMITS VOTE_PREDICTIONS METRICS_JSON COMPARISON_JSON
        METRICS_FOLDER [--params PATH]

PREDICTIONS and DISTANCES are folders with `<model>.npz`; files of models that are not in the parameters are removed.
Everything is fitted and chosen on the validation split. VOTE and LIMITS are for `predict`: how to combine the
models, and when not to answer. VOTE_PREDICTIONS has the predictions of the ensemble, cross-fitted for the validation
images. METRICS_JSON has

- accuracy, loss, ...: scores of the ensemble on the test split, the same as for each model;
- val: these scores on the validation split, cross-fitted in five folds, for comparison with other experiments;
- voting, weights: the kind of ensemble, and the weights of the members, fitted on the whole validation split;
- best_member: the model with the best accuracy on the validation split;
- sets: for each level of coverage, how often the set of classes contains the right one, and the mean size of the sets;
- unlike: the share of the test images that are farther from the training images than 99 % of the validation images.

COMPARISON_JSON shows which differences are more than noise, on the test split unless stated otherwise:

- n_images, n_groups: copies are one group; intervals, tests and folds treat a group as one observation;
- intervals: 95 %, for accuracy and macro F1; pairs: differences between models, with McNemar's test; agreement;
- calibration: as it is, and with a temperature fitted on the validation split;
- votes: accuracy and loss of each kind of ensemble, cross-fitted on the validation split; over_equal: the gain over the
  plain mean;
- without: for each member, the cross-fitted scores of an ensemble without it;
- selection: the accuracy on the images with the most confident answers.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stages.doubt.limits import fit_limits, measure_limits, write_limits
from stages.doubt.novelty import read_distances
from stages.doubt.selection import measure_selection
from stages.inference.vote_files import write_vote
from stages.reporting.class_tables import write_tables
from stages.runtime.files import remove_leftovers, write_json, write_text
from stages.runtime.process import run_stage
from stages.scoring.comparison import compare, compare_pairs, measure_agreement
from stages.scoring.cross_fitting import cross_fit
from stages.scoring.intervals import accuracy_interval, f1_macro_interval
from stages.scoring.predictions import Predictions, read_members, write_predictions
from stages.scoring.scores import score
from stages.scoring.temperatures import calibrate
from stages.scoring.voting import VOTES, EqualVote
from stages.settings.reading import read_params


def compare_on_test(voters: Mapping[str, Predictions], equal: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the part of COMPARISON_JSON that describes the test images.

    Args:
        voters: each member, and last the ensemble.
        equal: probabilities of the plain mean, float, shape (n_images, n_classes).
        seed: for the bootstrap.
    """
    labels, groups = voters["ensemble"].test_labels, voters["ensemble"].test_groups
    answers = {name: voter.test_probabilities.argmax(axis=1) for name, voter in voters.items()}
    right = {name: answer == labels for name, answer in answers.items()}
    return {
        "n_images": len(labels),
        "n_groups": len(np.unique(groups)),
        "intervals": {
            name: {
                "accuracy": accuracy_interval(right[name], groups),
                "f1_macro": f1_macro_interval(labels, answer, groups, seed),
            }
            for name, answer in answers.items()
        },
        "pairs": compare_pairs({"ensemble": right["ensemble"], **right}, groups),
        "over_equal": compare(right["ensemble"], equal.argmax(axis=1) == labels, groups),
        "agreement": measure_agreement(answers),
        "calibration": {name: calibrate(voter) for name, voter in voters.items()},
        "selection": measure_selection(voters["ensemble"].test_probabilities.max(axis=1), right["ensemble"], groups),
    }


def compare_on_val(
    first: Predictions, voting: str, votes: Mapping[str, np.ndarray], without: Iterable[tuple[str, np.ndarray]]
) -> dict[str, Any]:
    """Return the part of COMPARISON_JSON that describes the validation images.

    Args:
        first: a member, for labels and groups.
        voting: the kind of ensemble in the parameters.
        votes: {kind: its probabilities, cross-fitted, float, shape (n_images, n_classes)}.
        without: pairs of a member and the probabilities of the ensemble without it.
    """

    def measure(probabilities: np.ndarray) -> dict[str, float]:
        scores = score(first.val_labels, probabilities, first.val_groups)
        return {"accuracy": scores["accuracy"], "loss": scores["loss"]}

    of_votes, of_fewer = ({key: measure(each) for key, each in group} for group in (votes.items(), without))
    accuracy, loss = of_votes[voting].values()
    return {
        "votes": of_votes,
        "without": {
            name: {**fewer, "accuracy_lost": accuracy - fewer["accuracy"], "loss_gained": fewer["loss"] - loss}
            for name, fewer in of_fewer.items()
        },
    }


def shorten(content: Any) -> Any:
    """Round all numbers to six decimals; a smaller p-value keeps its first digits, so that it is not 0."""
    if isinstance(content, dict):
        return {key: shorten(value) for key, value in content.items()}
    if isinstance(content, list):
        return [shorten(value) for value in content]
    if isinstance(content, float):
        return round(content, 6) or float(f"{content:.1e}")
    return content


def write_answers(folder: Path, class_names: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Write the scores of each class, the confusion matrix, and one row per test image."""
    write_tables(folder, "ensemble", labels, probabilities, class_names)
    table = pd.DataFrame({"actual": class_names[labels], "predicted": class_names[probabilities.argmax(axis=1)]})
    write_text(folder / "answers.csv", table.to_csv(index=False, lineterminator="\n"))


@threadpool_limits.wrap(limits=1)  # products of small matrices: waiting threads only slow each other down
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = ("vote", "limits", "vote_predictions", "metrics_json", "comparison_json", "metrics_folder")
    for name in ("predictions", "distances", *outputs):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    recipe = read_params(arguments.params)
    names, voting, seed = list(recipe.models), recipe.ensemble.voting, recipe.seed

    members = read_members(arguments.predictions, names)
    for folder in (arguments.predictions, arguments.distances):
        remove_leftovers(folder, ".npz", names)
    val, test = (
        np.stack([vars(each)[f"{split}_probabilities"] for each in members.values()]) for split in ("val", "test")
    )
    first = members[names[0]]
    val_labels, test_labels, class_names = first.val_labels, first.test_labels, first.class_names
    how_fitted = val_labels, first.val_groups, seed
    vote = VOTES[voting].fit(val, val_labels)
    probabilities = vote.probabilities(test)
    votes = {name: cross_fit(kind, val, *how_fitted) for name, kind in VOTES.items()}
    of_vote = replace(first, val_probabilities=votes[voting], test_probabilities=probabilities)
    write_predictions(arguments.vote_predictions, of_vote)

    scores = score(test_labels, probabilities, first.test_groups)
    val_scores = score(val_labels, votes[voting], first.val_groups)
    best = names[int((val.argmax(axis=2) == val_labels).mean(axis=1).argmax())]
    weights = dict(zip(names, vote.weights.round(6).tolist(), strict=True))
    distances = read_distances(arguments.distances, names)
    limits = fit_limits(members, of_vote, distances.val, vote.weights, seed)
    write_limits(arguments.limits, limits)
    doubts = measure_limits(limits, of_vote, distances.test, vote.weights)
    how = {"voting": voting, "weights": weights, "best_member": best}
    write_json(arguments.metrics_json, {**scores, "val": val_scores, **how, **doubts})
    equal = EqualVote.fit(val, val_labels).probabilities(test)
    on_test = compare_on_test({**members, "ensemble": of_vote}, equal, seed)
    without = (  # one after another: each is as large as the members' probabilities
        (name, cross_fit(VOTES[voting], np.delete(val, i, axis=0), *how_fitted))
        for i, name in enumerate(names if len(names) > 1 else ())
    )
    write_json(arguments.comparison_json, shorten({**on_test, **compare_on_val(first, voting, votes, without)}))
    write_vote(arguments.vote, voting, vote, {name: on_test["calibration"][name]["temperature"] for name in names})

    write_answers(arguments.metrics_folder, class_names, test_labels, probabilities)
    difference = next(pair["accuracy_difference"] for pair in on_test["pairs"] if pair["b"] == best)
    print(f"ensemble: test accuracy {scores['accuracy']:.4f}, {difference:+.4f} against {best}")


if __name__ == "__main__":
    run_stage(main)
