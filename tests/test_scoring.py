"""Scores, compared with values calculated by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from stages.scoring.scores import per_class, score

# four images of three classes; answers 0, 0, 1, 2
LABELS = np.array([0, 1, 1, 2])
PROBABILITIES = np.array([[0.5, 0.25, 0.25], [0.5, 0.5 - 0.125, 0.125], [0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])


def test_scores_are_those_of_the_definitions_and_top5_says_nothing_of_three_classes():
    found = score(LABELS, PROBABILITIES, np.arange(4))
    assert {name: found[name] for name in found if name not in ("ece_expected", "ece_bound")} == {
        "accuracy": 0.75,
        # in nats: -(ln 1/2 + ln 3/8 + ln 1/2 + ln 1) / 4
        "loss": round((2 * math.log(2) + math.log(8 / 3)) / 4, 6),
        # class 0: precision 1/2, recall 1, f1 2/3; class 1: precision 1, recall 1/2, f1 2/3; class 2: 1
        "f1_macro": pytest.approx(7 / 9, abs=1e-6),
        # 0.5 is in one bin, with three images of which two are right: gap |1.5 - 2|; 1.0 is in another bin: no gap
        "ece": pytest.approx(0.5 / 4, abs=1e-6),
    }


def test_top5_counts_a_label_among_the_five_most_probable():
    row = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.07])  # label 4 is the fifth, label 5 the sixth
    assert score(np.array([4, 5]), np.stack([row, row]), np.arange(2))["top5"] == 0.5


def test_top5_names_five_classes_also_when_probabilities_tie():
    # the same probabilities for one image of each of forty classes; every second one is more probable, so the top five
    # are the first five of these, and the first is the answer
    row = np.tile([1, 3], 20) / 80
    found = score(np.arange(40), np.tile(row, (40, 1)), np.arange(40))
    assert (found["top5"], found["accuracy"]) == (5 / 40, 1 / 40)
    assert score(np.arange(1, 11, 2), np.tile(row, (5, 1)), np.arange(5))["top5"] == 1
    assert "top5" not in score(np.array([4]), np.full((1, 5), 1 / 5), np.arange(1))  # for five classes, it is always 1


def test_each_class_has_its_precision_recall_f1_and_support():
    table = per_class(LABELS, PROBABILITIES)
    assert table.columns.tolist() == ["precision", "recall", "f1", "support"]
    assert table["precision"].tolist() == [0.5, 1, 1]
    assert table["recall"].tolist() == [1, 0.5, 1]
    assert table["f1"].tolist() == pytest.approx([2 / 3, 2 / 3, 1], abs=1e-12)
    assert table["support"].tolist() == [1, 2, 1]


def test_a_class_without_images_or_answers_scores_0_and_counts_in_the_mean():
    labels, probabilities = np.array([1]), np.array([[0.25, 0.75, 0.0]])
    assert per_class(labels, probabilities)["f1"].tolist() == [0, 1, 0]
    assert score(labels, probabilities, labels)["f1_macro"] == pytest.approx(1 / 3, abs=1e-6)


def test_classes_are_scored_as_scikit_learn_scores_them():
    random = np.random.default_rng(1)
    labels, probabilities = random.integers(0, 30, 80), random.dirichlet(np.ones(40), 80)
    theirs = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(40), zero_division=0
    )
    np.testing.assert_allclose(per_class(labels, probabilities).to_numpy().T, theirs, rtol=0, atol=1e-12)
