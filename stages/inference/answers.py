"""Answers about pictures, and how they are printed: as text, as CSV, or as JSON lines."""

import csv
import json
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from stages.doubt.sets import choose_sets

TOP = 5  # classes
MOST_NAMED = 10  # classes of a set in the text for people; CSV and JSON have all


class Answer(NamedTuple):
    """The answer about one picture, and when not to trust it. None: unknown, or not asked for."""

    top: list[tuple[str, float]]  # the likeliest classes with their probabilities, likeliest first
    distance: float | None = None  # distance from the training pictures, in units of the limit
    classes: list[str] | None = None  # the set for the requested coverage, likeliest first
    is_unsure: bool | None = None  # below the requested probability: a person should look

    @property
    def is_unlike(self) -> bool:
        """Whether the picture is known to be beyond the limit."""
        return self.distance is not None and self.distance > 1

    def list_doubts(self) -> dict[str, Any]:
        """Return all known values except the classes, by their names in CSV and JSON."""
        found = {} if self.distance is None else {"distance": round(self.distance, 4), "unlike": self.is_unlike}
        found |= {} if self.classes is None else {"set": self.classes}
        return found | ({} if self.is_unsure is None else {"for_a_person": self.is_unsure})


def describe(
    probabilities: np.ndarray,
    names: list[str],
    distance: float | None = None,
    mass: float | None = None,
    at_least: float | None = None,
) -> Answer:
    """Make the answer about one picture.

    Args:
        probabilities: float, shape (n_classes,).
        mass: the limit of the sets (stages.doubt.sets.choose_sets); None: no set.
        at_least: an answer below this probability is unsure; None: not asked for.
    """
    order = np.argsort(-probabilities, kind="stable")
    chosen = None if mass is None else choose_sets(probabilities[None], mass)[0]
    return Answer(
        [(names[label], float(probabilities[label])) for label in order[:TOP]],
        distance,
        None if chosen is None else [names[label] for label in order if chosen[label]],
        None if at_least is None else bool(probabilities[order[0]] < at_least),
    )


def write_table(answers: Iterable[tuple[str, Answer]]) -> None:
    for path, answer in answers:
        lines = [f"{probability:.4f}  {name}" for name, probability in answer.top]
        if answer.is_unlike:
            lines.append(f"unlike the training pictures (distance {answer.distance:.2f}, the limit is 1)")
        if answer.classes is not None:
            rest = len(answer.classes) - MOST_NAMED
            lines.append(f"one of: {', '.join(answer.classes[:MOST_NAMED])}" + f" and {rest} more" * (rest > 0))
        if answer.is_unsure:
            lines.append("for a person")
        print(path, *(f"  {line}" for line in lines), sep="\n", flush=True)


def write_csv(answers: Iterable[tuple[str, Answer]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, (path, answer) in enumerate(answers):
        doubts = answer.list_doubts()
        if not number:
            ranks = range(1, len(answer.top) + 1)
            columns = [f"{column}_{rank}" for rank in ranks for column in ("class", "probability")]
            writer.writerow(["path", *columns, *doubts])
        cells = [cell for name, probability in answer.top for cell in (name, f"{probability:.6f}")]
        writer.writerow([path, *cells, *(json.dumps(each, ensure_ascii=False) for each in doubts.values())])


def write_json_lines(answers: Iterable[tuple[str, Answer]]) -> None:
    for path, answer in answers:
        top = [{"class": name, "probability": round(probability, 6)} for name, probability in answer.top]
        print(json.dumps({"path": path, "top": top, **answer.list_doubts()}, ensure_ascii=False))
