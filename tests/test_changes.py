"""The effect of a change: scores before and after, how many pictures are needed, which answers differ."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t, ttest_1samp

from stages.scoring.changes import compare_change, count_changed, count_needed, find_changed
from stages.scoring.intervals import difference_interval, mean_interval


def sure_of(answers: list[int], probability: float = 0.8) -> np.ndarray:
    """Return probabilities of three classes with these answers and this confidence."""
    rest = (1 - probability) / 2
    return np.where(np.eye(3)[answers] == 1, probability, rest)


def test_scores_are_those_before_and_after_and_the_difference_is_the_gain():
    labels, groups = np.array([0, 0, 1, 2]), np.arange(4)
    before, after = sure_of([0, 1, 1, 1]), sure_of([0, 0, 1, 1], 0.5)  # one more right answer
    found = compare_change(labels, before[None], after[None].astype(np.float32), groups)
    assert (found["accuracy_before"], found["accuracy_after"], found["accuracy_difference"]) == (0.5, 0.75, 0.25)
    right = np.array([True, True, True, False]), np.array([True, False, True, False])
    assert (found["low"], found["high"]) == pytest.approx(difference_interval(*right, groups))
    # the right class has 0.8 twice and 0.1 twice; then 0.5 three times and 0.25
    assert found["loss_before"] == pytest.approx(-np.log(0.8 * 0.1) / 2)
    assert found["loss_after"] == pytest.approx(-(3 * np.log(0.5) + np.log(0.25)) / 4)
    assert found["loss_difference"] == pytest.approx(found["loss_after"] - found["loss_before"])
    # single numbers are added as doubles
    of_three, of_one = -np.log(np.array([0.5, 0.25], np.float32)).astype(float)
    assert found["loss_after"] == pytest.approx((3 * of_three + of_one) / 4, rel=1e-12)
    assert found["loss_low"] < found["loss_difference"] < found["loss_high"]
    assert found["mid_p"] == 0.5  # one discordant picture: 1, halved
    assert "seed_p" not in found


def test_over_seeds_differences_are_averaged_and_their_spread_is_that_of_the_seeds():
    labels, groups = np.zeros(4, int), np.arange(4)
    before = np.stack([sure_of([1, 1, 0, 0])] * 2)
    after = np.stack([sure_of([0, 0, 0, 0]), sure_of([0, 1, 0, 0])])  # 0.5 and 0.25 more
    found = compare_change(labels, before, after, groups)
    assert found["accuracy_difference"] == 0.375
    doubted = mean_interval(np.array([1, 0.5, 0, 0]), groups, doubt=1)
    assert [found["low"], found["high"]] == pytest.approx(doubted)
    assert found["seed_deviation"] == pytest.approx(0.125 * 2**0.5)
    assert found["seed_p"] == pytest.approx(ttest_1samp([0.5, 0.25], 0).pvalue)
    assert compare_change(labels, before, before, groups)["seed_p"] == 1
    alike = compare_change(labels, before, after[[0, 0]], groups)  # by chance: accuracies are quarters
    assert alike["seed_p"] == pytest.approx(2 * t.sf(0.5 / (1 / (4 * 12**0.5) / 2**0.5), 1))
    assert found["mid_p"] == pytest.approx(0.25)  # sums of +-2 and +-1: 3 or -3 in half of the flips, which count half


def test_so_many_pictures_are_needed_that_the_gain_is_that_of_connor():
    # 12 and 8 of 100 are discordant: (1.959964 * sqrt(0.2) + 0.841621 * sqrt(0.2 - 0.04 ** 2)) ** 2 / 0.04 ** 2 = 978.3
    gain = np.repeat([1, -1, 0], [12, 8, 80])
    assert count_needed(gain, np.arange(100)) == pytest.approx(979, abs=1)
    assert count_needed(-gain, np.arange(100)) == count_needed(gain, np.arange(100))
    # copies that are right or wrong together count as one picture
    assert count_needed(gain.repeat(3), np.arange(100).repeat(3)) == pytest.approx(3 * 979, abs=3)
    assert count_needed(np.array([1, -1, 0]), np.arange(3)) is None


def test_the_interval_of_a_mean_is_students_and_copies_count_as_one_picture():
    values = np.random.default_rng(1).normal(size=20)
    theirs = ttest_1samp(values, 0).confidence_interval()
    assert mean_interval(values, np.arange(20)) == pytest.approx([theirs.low, theirs.high])
    assert mean_interval(values.repeat(5), np.arange(20).repeat(5)) == pytest.approx([theirs.low, theirs.high])
    # an imaginary picture in addition to 100 equal ones: 1.984217 / 100
    assert mean_interval(np.zeros(300), np.arange(100).repeat(3), doubt=1) == pytest.approx([-0.01984217, 0.01984217])


def test_an_answer_that_differs_is_gained_lost_or_neither_and_the_sure_ones_come_first():
    labels = np.array([0, 0, 0, 1])
    before, after = sure_of([0, 0, 1, 2]), sure_of([0, 1, 2, 1])
    before[1] = [0.5, 0.3, 0.2]
    found = find_changed(labels, before, after)
    assert found[["row", "kind", "said_before", "said_after"]].to_numpy().tolist() == [
        [2, "other", 1, 2],
        [3, "gained", 2, 1],
        [1, "lost", 0, 1],
    ]
    assert found["sure_before"].tolist() == [0.8, 0.8, 0.5]
    alike = find_changed(np.zeros(99, int), sure_of([0] * 99), sure_of([1] * 99))
    assert alike["row"].tolist() == list(range(99))
    assert count_changed(labels, found, ["rose", "tulip", "iris"]) == [
        {"name": "rose", "n_images": 3, "gained": 0, "lost": 1, "other": 1},
        {"name": "tulip", "n_images": 1, "gained": 1, "lost": 0, "other": 0},
    ]


def test_the_classes_that_lost_or_gained_most_come_first_then_those_that_changed_most():
    kinds = {0: ["gained"] * 2 + ["lost"] * 2, 1: ["gained"] * 2, 2: ["lost"] * 3 + ["gained"], 3: ["lost"] * 2}
    rows = [(label, kind) for label, its in kinds.items() for kind in its]
    counts = count_changed(np.array([0, 1, 1, 2, 3]), pd.DataFrame(rows, columns=["label", "kind"]), list("abcde"))
    assert [(each["name"], each["n_images"], each["other"]) for each in counts] == [
        *(("c", 1, 0), ("b", 2, 0), ("d", 1, 0), ("a", 1, 0))  # 2 less of 4 changed; 2 more, 2 less; none less of 4
    ]


def test_nothing_changed_is_nothing_found():
    labels, same = np.array([0, 1]), sure_of([0, 2])
    found = find_changed(labels, same, same)
    assert len(found) == 0
    assert count_changed(labels, found, ["rose", "tulip", "iris"]) == []
