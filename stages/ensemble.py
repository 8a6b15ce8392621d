"""The members' prediction files in; the scores of their soft vote, and how it compares with the best member, out.

    python -m stages.ensemble PREDICTIONS METRICS_JSON METRICS_FOLDER

PREDICTIONS is the folder of `<model>.npz`. Whatever is fitted or chosen here is so on the validation split.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.runtime.errors import UserError
from stages.runtime.files import write_json, write_text
from stages.runtime.process import run_stage
from stages.scoring.class_tables import write_tables
from stages.scoring.comparison import compare
from stages.scoring.predictions import Predictions, read_predictions
from stages.scoring.scores import score
from stages.scoring.voting import fit_temperature, fit_weights, soft_vote, temper
from stages.settings.reading import read_config


@dataclass(frozen=True)
class Vote:
    """A way to vote: a weight and a temperature per member, shapes (n_models,)."""

    weights: np.ndarray
    temperatures: np.ndarray

    def probabilities(self, members: list[np.ndarray]) -> np.ndarray:
        """Return the vote's probabilities, (n_images, n_classes), from each member's."""
        tempered = [temper(each, t) for each, t in zip(members, self.temperatures, strict=True)]
        return soft_vote(np.stack(tempered), self.weights)


def equal_vote(n_models: int) -> Vote:
    """Return the assignment's vote: the plain mean."""
    return Vote(np.full(n_models, 1 / n_models), np.ones(n_models))


def fitted_vote(val_probabilities: list[np.ndarray], val_labels: np.ndarray) -> Vote:
    """Fit a temperature for each member, then the weights, to the validation split."""
    temperatures = [fit_temperature(each, val_labels) for each in val_probabilities]
    tempered = [temper(each, t) for each, t in zip(val_probabilities, temperatures, strict=True)]
    return Vote(fit_weights(np.stack(tempered), val_labels), np.array(temperatures))


def read_members(folder: Path, names: list[str]) -> list[Predictions]:
    """Read the members' predictions.

    Raises:
        UserError: a file is missing or damaged, or two members did not see the same images and classes.
    """
    paths = [folder / f"{name}.npz" for name in names]
    members = [read_predictions(path) for path in paths]
    for path, member in zip(paths, members, strict=True):
        for key in ("class_names", "val_labels", "test_labels"):
            if not np.array_equal(getattr(member, key), getattr(members[0], key)):
                raise UserError(
                    f"{path}: expected the same images and classes as in {paths[0].name}, "
                    f"found other {key.replace('_', ' ')}; run `dvc repro ensemble`"
                )
    return members


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("predictions", "metrics_json", "metrics_folder"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    config = read_config()
    names = config.ensemble.members

    members = read_members(arguments.predictions, names)
    val, test = [m.val_probabilities for m in members], [m.test_probabilities for m in members]
    val_labels, test_labels = members[0].val_labels, members[0].test_labels
    votes = {"equal": equal_vote(len(names)), "fitted": fitted_vote(val, val_labels)}
    vote = votes[config.ensemble.voting]
    probabilities = vote.probabilities(test)

    right = {name: each.argmax(axis=1) == test_labels for name, each in zip(names, test, strict=True)}
    best = max(names, key=lambda name: (val[names.index(name)].argmax(axis=1) == val_labels).mean())
    comparison = compare(probabilities.argmax(axis=1) == test_labels, right[best], config.seed)
    scores = score(test_labels, probabilities)
    write_json(
        arguments.metrics_json,
        {
            **scores,
            "val": score(val_labels, vote.probabilities(val)),
            "voting": config.ensemble.voting,
            "weights": _by_name(names, vote.weights),
            "temperatures": _by_name(names, vote.temperatures),
            **{way: score(test_labels, other.probabilities(test)) for way, other in votes.items()},
            "best_member": best,
            "vs_best_member": comparison,
        },
    )
    class_names = members[0].class_names.tolist()
    write_tables(arguments.metrics_folder, "ensemble", test_labels, probabilities, class_names)
    answers = pd.DataFrame({"actual": test_labels, "predicted": probabilities.argmax(axis=1)})
    answers = answers.map(lambda label: class_names[label])
    write_text(arguments.metrics_folder / "answers.csv", answers.to_csv(index=False, lineterminator="\n"))
    print(f"ensemble: test accuracy {scores['accuracy']:.4f}, {comparison['accuracy_difference']:+.4f} against {best}")


def _by_name(names: list[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}


if __name__ == "__main__":
    run_stage(main)
