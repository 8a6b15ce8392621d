"""Bootstrap intervals of scores, by hand and beside SciPy's bootstrap of scikit-learn's scores."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from stages.scoring import intervals
from stages.scoring.intervals import accuracy_interval, f1_macro, f1_macro_interval


def _images(n_images: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and answers of which two in three are right."""
    random = np.random.default_rng(1)
    labels, others = random.integers(0, n_classes, (2, n_images))
    return labels, np.where(random.random(n_images) < 2 / 3, labels, others)


def test_the_interval_of_an_accuracy_is_binomial():
    # of two images one is right: a resample has none, one or two with 1/4, 1/2 and 1/4, so that 95 % need all three
    assert accuracy_interval(np.array([True, False])) == [0, 1]
    assert accuracy_interval(np.ones(9, bool)) == [1, 1]
    # 1 of 40: (39/40) ** 40 = 0.363 have none; 3 or fewer have 0.983, 2 or fewer 0.923
    assert accuracy_interval(np.arange(40) == 0) == [0, 3 / 40]


def test_the_interval_of_an_accuracy_is_scipys_percentile_bootstrap():
    right = np.random.default_rng(1).random(400) < 0.8
    theirs = bootstrap([right], np.mean, method="percentile", rng=1).confidence_interval
    assert accuracy_interval(right) == pytest.approx([theirs.low, theirs.high], abs=1.5 / 400)


def test_macro_f1_of_a_resample_is_that_of_scikit_learn():
    labels, answers = _images(60, 25)
    cells, cell_of_image = np.unique(np.stack([labels, answers]), axis=1, return_inverse=True)
    resamples = np.random.default_rng(1).integers(0, 60, (20, 60))
    counts = np.stack([np.bincount(cell_of_image[drawn], minlength=cells.shape[1]) for drawn in resamples])
    theirs = [f1_score(labels[drawn], answers[drawn], average="macro") for drawn in resamples]
    np.testing.assert_allclose(f1_macro(cells, counts), theirs, rtol=0, atol=1e-12)


def test_a_class_counts_where_it_occurs_or_is_answered():
    # images are 0, 0, 1, answers 0, 2, 1: the F1 are 2/3, 1 and, of class 2, which was answered, 0
    cells = np.array([[0, 0, 1], [0, 2, 1]])
    np.testing.assert_allclose(f1_macro(cells, np.array([[1, 1, 1], [3, 0, 0]])), [(2 / 3 + 1 + 0) / 3, 1], atol=1e-12)


def test_the_interval_of_macro_f1_is_scipys_percentile_bootstrap():
    labels, answers = _images(200, 5)

    def f1(labels: np.ndarray, answers: np.ndarray, axis: int) -> np.ndarray:
        are, said = (images[..., None] == np.arange(5) for images in (labels, answers))
        return (2 * (are & said).sum(axis - 1) / (are.sum(axis - 1) + said.sum(axis - 1))).mean(axis=-1)

    assert f1(labels, answers, -1) == pytest.approx(f1_score(labels, answers, average="macro"), abs=1e-12)
    options = {"paired": True, "vectorized": True, "method": "percentile", "n_resamples": 2000, "rng": 1}
    theirs = bootstrap((labels, answers), f1, **options).confidence_interval
    # the standard error of F1 is about 0.035, and that of a bound of 2,000 resamples a twentieth of it, twice
    assert f1_macro_interval(labels, answers, seed=1) == pytest.approx([theirs.low, theirs.high], abs=0.007)


def test_the_interval_holds_the_score_though_most_resamples_lack_classes():
    labels = np.arange(40).repeat(2)
    answers = np.where(np.arange(80) % 5 > 0, labels, 0)
    low, high = f1_macro_interval(labels, answers, seed=1)
    assert low < f1_score(labels, answers, average="macro") < high


def test_the_interval_does_not_depend_on_how_many_resamples_fit_into_memory(monkeypatch):
    expected = f1_macro_interval(*_images(60, 5), seed=1)
    monkeypatch.setattr(intervals, "MAX_COUNTS", 300)  # a dozen at a time
    assert f1_macro_interval(*_images(60, 5), seed=1) == expected
