"""Cross-fitted ensembles: folds of whole groups."""

import numpy as np
import pytest

from stages.scoring.cross_fitting import N_FOLDS, assign_folds, cross_fit
from stages.scoring.voting import VOTES


def _random_probabilities(n_models: int, n_images: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), (n_models, n_images))


def test_every_fold_has_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [12, 5, 3])
    alone = np.arange(20)
    folds = assign_folds(labels, alone, seed=1)
    counts = np.array([np.bincount(folds[labels == label], minlength=N_FOLDS) for label in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()  # 12 images: 2 or 3 per fold; 5: one each; 3: one or none
    assert counts.sum(axis=0).tolist() == [4, 4, 4, 4, 4]
    assert (
        folds.tolist() == assign_folds(labels, alone, seed=1).tolist() != assign_folds(labels, alone, seed=2).tolist()
    )


def test_the_groups_of_a_class_are_dealt_out_in_turn_the_largest_first():
    sizes = [1, 4, 2, 7, 3, 6, 5]
    folds = assign_folds(np.zeros(sum(sizes), int), np.repeat(np.arange(7), sizes), seed=1)
    of_groups = folds[np.cumsum(sizes) - 1]
    assert of_groups[np.argsort(sizes)[::-1]].tolist() == [0, 1, 2, 3, 4, 0, 1]


def test_no_group_is_in_two_folds_and_folds_are_alike():
    sizes = np.random.default_rng(1).integers(1, 6, 60)
    groups = np.repeat(np.arange(60)[::-1], sizes)
    labels = groups % 3
    folds = assign_folds(labels, groups, seed=1)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in range(60))
    assert all(np.ptp(np.bincount(folds[labels == label])) <= 5 for label in range(3))  # the largest group


@pytest.mark.parametrize("kind", VOTES.values(), ids=VOTES)
def test_an_image_has_no_say_in_what_the_cross_fitted_vote_answers_for_it(kind):
    members, labels, groups = _random_probabilities(3, 12, 2), np.arange(12) // 2 % 2, np.arange(12) // 2
    fold = assign_folds(labels, groups, seed=1) == 0
    expected = kind.fit(members[:, ~fold], labels[~fold]).probabilities(members[:, fold])
    np.testing.assert_allclose(cross_fit(kind, members, labels, groups, seed=1)[fold], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", VOTES.values(), ids=VOTES)
def test_images_of_a_single_group_are_judged_by_the_equal_vote(kind):
    members = _random_probabilities(3, 4, 2)
    found = cross_fit(kind, members, np.array([0, 1, 0, 1]), np.full(4, 7), seed=1)
    np.testing.assert_allclose(found, members.mean(axis=0), rtol=0, atol=1e-12)
