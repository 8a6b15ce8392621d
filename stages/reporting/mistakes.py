"""The mistakes of the ensemble, by image and by class: the answer of each member, and where one member looked."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.reporting.pictures import encode_thumbnail, lay_over
from stages.scoring.confusion import confused_pairs, confusion_frame
from stages.scoring.mistakes import choose_mistakes

N_MISTAKES = 18
N_PAIRS = 12
N_EXAMPLES = 5  # images per class of a pair
N_MAPS = 8


@dataclass(frozen=True)
class Answers:
    """The answers of all models on the test images."""

    images: np.ndarray  # uint8, (n_images, size, size, 3)
    labels: np.ndarray  # int, (n_images,)
    class_names: np.ndarray
    probabilities: dict[str, np.ndarray]  # {model: (n_images, n_classes)}, "ensemble" first

    @property
    def of_vote(self) -> np.ndarray:
        """The classes that the ensemble predicts, int, shape (n_images,)."""
        return self.probabilities["ensemble"].argmax(axis=1)

    def of(self, row: int) -> list[dict[str, Any]]:
        """Return the answer of each model for an image: name, answer, probability, right."""
        said = {name: each[row] for name, each in self.probabilities.items()}
        return [
            {
                "name": name,
                "answer": str(self.class_names[each.argmax()]),
                "probability": float(each.max()),
                "right": bool(each.argmax() == self.labels[row]),
            }
            for name, each in said.items()
        ]


def show_mistakes(answers: Answers) -> list[dict[str, Any]]:
    """List the most confident mistakes of the ensemble: picture, actual (class), said (answers of all models)."""
    rows = choose_mistakes(answers.labels, answers.probabilities["ensemble"], N_MISTAKES)
    return [
        {"picture": encode_thumbnail(answers.images[row]), "actual": _label(answers, row), "said": answers.of(row)}
        for row in rows
    ]


def show_pairs(answers: Answers) -> list[dict[str, Any]]:
    """Add pictures to the most confused pairs of classes; pictures that were confused come first.

    Returns:
        A dict per pair with the columns of `confused_pairs`, and `pictures` of the actual and the predicted class: each
        a list of dicts with `picture` and `wrong`.
    """
    names = answers.class_names.tolist()
    pairs = confused_pairs(confusion_frame(answers.labels, answers.of_vote, names), N_PAIRS).to_dict("records")
    for pair in pairs:
        one, other = names.index(pair["actual"]), names.index(pair["predicted"])
        pair["pictures"] = [_show_class(answers, one, other), _show_class(answers, other, one)]
    return pairs


def _show_class(answers: Answers, label: int, taken_for: int) -> list[dict[str, Any]]:
    rows, said = np.flatnonzero(answers.labels == label), answers.of_vote
    rank = np.where(said[rows] == taken_for, 0, np.where(said[rows] == label, 1, 2))
    chosen = rows[np.argsort(rank, kind="stable")][:N_EXAMPLES]
    return [{"picture": encode_thumbnail(answers.images[row]), "wrong": bool(said[row] == taken_for)} for row in chosen]


def show_attention(
    answers: Answers, name: str, maps: dict[int, np.ndarray], image_size_px: int
) -> list[dict[str, Any]]:
    """List confident mistakes of the ensemble that a member makes as well, with the attention map on the picture.

    Args:
        name: name of the member.
        maps: uint8 (height, width), by the row of the test image.
        image_size_px: side of the centre of the images that members see.
    Returns:
        A dict per image: picture, map (of the same part), actual, and the answer and probability of the member.
    """
    ranked = choose_mistakes(answers.labels, answers.probabilities["ensemble"], len(answers.labels))
    found = []
    for row in [row for row in ranked.tolist() if row in maps][:N_MAPS]:
        edge = (answers.images.shape[1] - image_size_px) // 2
        seen = answers.images[row][edge : edge + image_size_px, edge : edge + image_size_px]
        said = next(each for each in answers.of(row) if each["name"] == name)
        found.append(
            {
                "picture": encode_thumbnail(seen),
                "map": encode_thumbnail(lay_over(seen, maps[row])),
                "actual": _label(answers, row),
                **said,
            }
        )
    return found


def _label(answers: Answers, row: int) -> str:
    return str(answers.class_names[answers.labels[row]])
