"""The models vote: each block of `models` is a member, and its probabilities are all that the vote needs of it.

    python -m stages.ensemble PREDICTIONS VOTE VOTE_PREDICTIONS METRICS_JSON METRICS_FOLDER [--params PATH]

PREDICTIONS is the folder of `<model>.npz`; what else lies there is not read. Whatever is fitted or chosen here is so on
the validation split. VOTE says how it is taken, for whoever has the models; VOTE_PREDICTIONS what it says of the
validation images (cross-fitted) and of the test images, as a model's predictions do. METRICS_JSON holds

- accuracy, loss, ...: of the vote on the test split, as for every model;
- val: the same on the validation split, cross-fitted, so that it may be compared with other models and experiments:
  each image is judged by a vote that was fitted without its fold, one of five;
- voting, weights, and a linear pool's temperatures: how this vote is taken, fitted to all of the validation split;
- votes: accuracy and loss of every kind of vote on the validation split, cross-fitted;
- best_member, vs_best_member: of the model that is the most accurate on the validation split, and the difference to it.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from stages.runtime.files import write_json, write_text
from stages.runtime.process import run_stage
from stages.scoring.class_tables import write_tables
from stages.scoring.comparison import compare
from stages.scoring.predictions import Predictions, read_predictions, write_predictions
from stages.scoring.scores import score
from stages.scoring.voting import VOTES, cross_fit, write_vote
from stages.settings.reading import read_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("predictions", "vote", "vote_predictions", "metrics_json", "metrics_folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    recipe = read_params(arguments.params)
    names, voting = list(recipe.models), recipe.ensemble.voting

    members = [read_predictions(arguments.predictions / f"{name}.npz") for name in names]
    val, test = (np.stack([getattr(m, f"{split}_probabilities") for m in members]) for split in ("val", "test"))
    val_labels, test_labels, class_names = members[0].val_labels, members[0].test_labels, members[0].class_names
    vote = VOTES[voting].fit(val, val_labels)
    probabilities = vote.probabilities(test)
    answers, member_answers = probabilities.argmax(axis=1), test.argmax(axis=2)

    best = int((val.argmax(axis=2) == val_labels).mean(axis=1).argmax())
    comparison = compare(answers == test_labels, member_answers[best] == test_labels, recipe.seed)
    scores = score(test_labels, probabilities)
    fitted = {name: cross_fit(kind, val, val_labels, recipe.seed) for name, kind in VOTES.items()}
    of_val = {name: score(val_labels, each) for name, each in fitted.items()}
    write_vote(arguments.vote, names, voting, vote)
    write_predictions(
        arguments.vote_predictions, Predictions(fitted[voting], val_labels, probabilities, test_labels, class_names)
    )
    write_json(
        arguments.metrics_json,
        {
            **scores,
            "val": of_val[voting],
            "voting": voting,
            **{each: dict(zip(names, values.round(6).tolist(), strict=True)) for each, values in vars(vote).items()},
            "votes": {name: {each: scores[each] for each in ("accuracy", "loss")} for name, scores in of_val.items()},
            "best_member": names[best],
            "vs_best_member": comparison,
        },
    )
    write_tables(arguments.metrics_folder, "ensemble", test_labels, probabilities, class_names)
    table = pd.DataFrame({"actual": class_names[test_labels], "predicted": class_names[answers]})
    write_text(arguments.metrics_folder / "answers.csv", table.to_csv(index=False, lineterminator="\n"))
    difference = comparison["accuracy_difference"]
    print(f"ensemble: test accuracy {scores['accuracy']:.4f}, {difference:+.4f} against {names[best]}")


if __name__ == "__main__":
    run_stage(main)
