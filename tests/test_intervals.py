"""Intervals of scores: by hand, compared with libraries, and for groups of copies. Coverage: test_statistics.py."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from stages.scoring import intervals
from stages.scoring.intervals import accuracy_interval, difference_interval, f1_macro, f1_macro_interval, wilson


def _images(n_images: int, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, answers (two in three are right), and groups of one image each."""
    random = np.random.default_rng(1)
    labels, others = random.integers(0, n_classes, (2, n_images))
    return labels, np.where(random.random(n_images) < 2 / 3, labels, others), np.arange(n_images)


@pytest.mark.parametrize("n_right", [0, 7, 30])
def test_the_interval_of_an_accuracy_is_wilsons(n_right):
    theirs = binomtest(n_right, 30).proportion_ci(method="wilson")
    ours = accuracy_interval(np.arange(30) < n_right, np.arange(30))
    assert ours == pytest.approx([theirs.low, theirs.high], abs=1e-6)


@pytest.mark.parametrize("n_right", [0, 3, 6])
def test_copies_that_share_their_fate_count_as_one_picture(n_right):
    right, groups = np.repeat(np.arange(6) < n_right, 5), np.repeat(np.arange(6), 5)
    expected = accuracy_interval(np.arange(6) < n_right, np.arange(6))
    assert accuracy_interval(right, groups) == pytest.approx(expected, abs=1e-12)


def test_the_bounds_of_a_difference_are_those_that_a_score_test_just_does_not_reject():
    a, b, groups = np.arange(50) < 48, (np.arange(50) < 36) | (np.arange(50) >= 48), np.arange(50)  # 12 and 2 alone
    for bound in difference_interval(a, b, groups):
        # the likeliest share where b alone is right, at this difference: 12 log(q + d) + 2 log(q) + 36 log(1 - 2q - d)
        shares = np.linspace(max(0, -bound) + 1e-6, (1 - bound) / 2 - 1e-6, 100_001)
        share = shares[
            np.argmax(12 * np.log(shares + bound) + 2 * np.log(shares) + 36 * np.log(1 - 2 * shares - bound))
        ]
        error = np.sqrt((2 * share + bound - bound**2) / 50)
        assert abs(0.2 - bound) / error == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize("n", [2, 10])
def test_alike_answers_are_no_certainty_and_the_interval_ends_at_1(n):
    z = 1.959964
    right, wrong, groups = np.ones(n, bool), np.zeros(n, bool), np.arange(n)
    half = z**2 / (n + z**2)  # n * d = z * sqrt(n * d * (1 - d))
    assert difference_interval(right, right, groups) == pytest.approx([-half, half], abs=1e-6)
    bound = (n - z**2) / (
        n + z**2
    )  # n * (1 - d) = z * sqrt(n * (1 - d ** 2)), b alone right on the likeliest (1 - d) / 2
    assert difference_interval(right, wrong, groups) == pytest.approx([bound, 1], abs=1e-6)
    assert difference_interval(wrong, right, groups) == pytest.approx([-1, -bound], abs=1e-6)
    of_copies = difference_interval(right.repeat(3), right.repeat(3), groups.repeat(3))
    assert of_copies == pytest.approx([-half, half], abs=1e-6)


def test_macro_f1_is_that_of_scikit_learn_over_the_classes_that_occur():
    labels, answers, _ = _images(60, 25)
    right, occurs = np.zeros((2, 25)), np.zeros((2, 25))
    for row, n in enumerate((60, 4)):
        np.add.at(right[row], labels[:n], labels[:n] == answers[:n])
        np.add.at(occurs[row], np.concatenate([labels[:n], answers[:n]]), 1)
    theirs = [f1_score(labels[:n], answers[:n], average="macro") for n in (60, 4)]
    np.testing.assert_allclose(f1_macro(right, occurs), theirs, rtol=0, atol=1e-12)


def test_the_interval_of_macro_f1_of_two_large_classes_is_that_of_their_accuracy():
    # 400 of each, of which 80 are taken for the other: F1 and accuracy are both 0.8, for every resample nearly
    labels, answers = np.repeat([0, 1], 400), np.repeat([0, 1, 1, 0], [320, 80, 320, 80])
    expected = accuracy_interval(labels == answers, np.arange(800))
    assert f1_macro_interval(labels, answers, np.arange(800), seed=1) == pytest.approx(expected, abs=0.003)


def test_the_interval_of_macro_f1_holds_the_score_though_many_classes_have_two_images_and_is_no_point_at_1():
    labels = np.arange(40).repeat(2)
    answers = np.where(np.arange(80) % 5 > 0, labels, 0)
    low, high = f1_macro_interval(labels, answers, np.arange(80), seed=1)
    assert low < f1_score(labels, answers, average="macro") < high
    expected = accuracy_interval(labels == labels, np.arange(80))  # all right
    assert f1_macro_interval(labels, labels, np.arange(80), seed=1) == pytest.approx(expected, abs=1e-12)
    of_groups = f1_macro_interval(labels, labels, labels, seed=1)  # one group per class: none can be drawn
    assert of_groups == pytest.approx(accuracy_interval(labels == labels, labels), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "answers", "whole", "scores", "chances"),
    [
        # one of two images is drawn, and counts twice: the right one, or the wrong one
        ([0, 0, 1], [0, 1, 1], (2 / 3 + 2 / 3) / 2, (1, (0 + 1 / 2) / 2), (1 / 2, 1 / 2)),
        ([0, 0, 1], [0, 2, 1], (2 / 3 + 1 + 0) / 3, (1, (0 + 1 + 0) / 3), (1 / 2, 1 / 2)),  # 2 is nobody's label
        # two of three are drawn, and count 1.5 times each: none, one or two wrong ones
        ([0, 0, 0, 1], [0, 0, 1, 1], (4 / 5 + 2 / 3) / 2, (1, (2 / 3 + 4 / 7) / 2, 1 / 5), (4 / 9, 4 / 9, 1 / 9)),
    ],
)
def test_of_each_class_one_image_less_is_drawn_than_there_are(labels, answers, whole, scores, chances):
    n = len(labels)
    found = f1_macro_interval(np.array(labels), np.array(answers), np.arange(n), seed=1)
    mean = np.dot(chances, scores)
    score, variance = 2 * whole - mean, np.dot(chances, (scores - mean) ** 2)
    expected = wilson(score, (score * (1 - score) + 1 / n) / (variance + 1 / n**2))  # one group is added
    assert found == pytest.approx(expected, abs=0.005)


def test_the_interval_does_not_depend_on_how_many_resamples_fit_into_memory(monkeypatch):
    expected = f1_macro_interval(*_images(60, 5), seed=1)
    monkeypatch.setattr(intervals, "MAX_COUNTS", 420)  # seven at a time, at last five
    assert f1_macro_interval(*_images(60, 5), seed=1) == expected
