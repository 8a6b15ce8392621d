"""Votes and the images that they were not fitted to: folds, and what leaving a member out means."""

import numpy as np
import pytest

from stages.scoring.cross_fitting import N_FOLDS, assign_folds, cross_fit, leave_out
from stages.scoring.voting import VOTES, LinearPool


def _random_probabilities(n_models: int, n_images: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), (n_models, n_images))


def test_every_fold_has_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [12, 5, 3])
    folds = assign_folds(labels, seed=1)
    counts = np.array([np.bincount(folds[labels == label], minlength=N_FOLDS) for label in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()  # 12 images: 2 or 3 a fold; 5: one each; 3: one or none
    assert counts.sum(axis=0).tolist() == [4, 4, 4, 4, 4]
    assert folds.tolist() == assign_folds(labels, seed=1).tolist() != assign_folds(labels, seed=2).tolist()


@pytest.mark.parametrize("kind", VOTES.values(), ids=VOTES)
def test_an_image_has_no_say_in_what_the_cross_fitted_vote_answers_for_it(kind):
    members, labels = _random_probabilities(3, 10, 2), np.arange(10) % 2
    fold = assign_folds(labels, seed=1) == 0
    expected = kind.fit(members[:, ~fold], labels[~fold]).probabilities(members[:, fold])
    np.testing.assert_allclose(cross_fit(kind, members, labels, seed=1)[fold], expected, rtol=0, atol=1e-12)


def test_a_vote_without_a_member_is_that_of_the_others_and_one_alone_cannot_be_left_out():
    members, labels = _random_probabilities(3, 10, 2), np.arange(10) % 2
    without = dict(leave_out(LinearPool, ["a", "b", "c"], members, labels, seed=1))
    assert list(without) == ["a", "b", "c"]
    np.testing.assert_array_equal(without["b"], cross_fit(LinearPool, members[[0, 2]], labels, seed=1))
    assert not dict(leave_out(LinearPool, ["a"], members[:1], labels, seed=1))
