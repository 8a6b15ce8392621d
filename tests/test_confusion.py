"""The confusion matrix: its orientation, the order of its pairs, and that its figure is legible."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.reporting.confusion_figure import draw_confusion, order_alike
from stages.scoring.confusion import confused_pairs, confusion_frame

NAMES = ["aster", "iris", "rose"]
LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 0, 1, 2, 2, 2])


def random_frame(names: list[str]):
    rng, n_classes = np.random.default_rng(1), len(names)
    labels = np.arange(4 * n_classes) % n_classes
    predictions = np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(0, n_classes, len(labels)))
    return confusion_frame(labels, predictions, names)


def test_rows_are_actual_and_columns_predicted_classes():
    frame = confusion_frame(LABELS, PREDICTIONS, NAMES)
    assert frame.to_numpy().tolist() == [[3, 1, 0], [0, 0, 2], [0, 0, 1]]
    assert frame.index.tolist() == frame.columns.tolist() == NAMES
    assert frame.loc["aster", "iris"] == 1
    assert (frame.index.name, frame["iris"].dtype) == ("actual", np.int64)


def test_a_pair_is_listed_once_with_both_directions_and_the_most_mistakes_first():
    labels, predictions = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 2, 2, 1, 2])
    pairs = confused_pairs(confusion_frame(labels, predictions, NAMES), 10)
    assert pairs.to_dict("records") == [
        {"actual": "iris", "predicted": "rose", "count": 2, "back": 1, "n_actual": 2, "n_predicted": 2},
        {"actual": "aster", "predicted": "iris", "count": 1, "back": 0, "n_actual": 4, "n_predicted": 2},
    ]
    assert confused_pairs(confusion_frame(LABELS, LABELS, NAMES), 10).empty


def test_of_pairs_with_as_many_mistakes_the_larger_share_of_a_class_comes_first():
    counts = [[4, 2, 0, 0, 0], [2, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 3, 0], [0, 0, 1, 0, 0]]
    frame = pd.DataFrame(counts, index=list("ABCDE"), columns=list("ABCDE"))
    pairs = confused_pairs(frame, 5)
    # four mistakes; 1 of 1, 1 of 2, 1 of 4 twice
    assert (pairs["actual"] + pairs["predicted"]).tolist() == ["AB", "EC", "CD", "BC", "BD"]
    assert pairs.iloc[0].tolist() == ["A", "B", 2, 2, 6, 4]
    assert confused_pairs(frame, 2).equals(pairs[:2])


def test_classes_that_are_taken_for_each_other_stand_together():
    counts = np.diag([4, 4, 4, 4, 4])
    counts[0, 3] = counts[4, 1] = 3
    order = order_alike(counts).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(3)) == abs(order.index(4) - order.index(1)) == 1
    assert order_alike(np.eye(2, dtype=int)).tolist() == [0, 1]


def test_a_matrix_of_104_classes_is_large_enough_to_read_and_small_enough_to_keep(tmp_path):
    draw_confusion(random_frame([f"class {i}" for i in range(104)]), "cnn", tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) >= 104 * 11  # pixels per name
    assert (tmp_path / "confusion.png").stat().st_size < 200_000


def test_right_is_blue_and_wrong_is_orange(tmp_path):
    frame = confusion_frame(np.array([0, 1]), np.array([0, 0]), ["a", "b"])
    draw_confusion(frame, "cnn", tmp_path / "confusion.png")
    pixels = np.asarray(Image.open(tmp_path / "confusion.png").convert("RGB")).astype(int).reshape(-1, 3)
    blue, orange = np.array([8, 48, 107]), np.array([127, 39, 4])  # all right, all wrong
    for colour in (blue, orange):
        assert (abs(pixels - colour).max(axis=1) <= 4).sum() > 48 * 48 / 2  # most of a cell of 48 x 48


@pytest.mark.parametrize("names", [["$x_1$ <&>", "a" * 200], [f"{i}" for i in range(151)]], ids=["odd", "many"])
def test_any_number_of_classes_of_any_name_can_be_drawn(tmp_path, names):
    draw_confusion(random_frame(names), "cnn", tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        corners = [image.convert("RGB").getpixel(xy) for xy in ((0, 0), (image.width - 1, image.height - 1))]
    assert min(min(corner) for corner in corners) >= 250  # a white border: nothing is cut off
