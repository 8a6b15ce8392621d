"""Ensembles: means calculated by hand, and fitted weights whose values are known."""

import numpy as np
import pytest

from stages.scoring.cross_entropy import cross_entropy
from stages.scoring.temperatures import temper
from stages.scoring.voting import VOTES, EqualVote, LinearPool, LogarithmicPool, fit_weights

A = np.array([[0.75, 0.25], [0.5, 0.5]])
B = np.array([[0.25, 0.75], [0.0, 1.0]])


def _random_probabilities(n_models: int, n_images: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), (n_models, n_images))


def test_the_equal_vote_is_the_plain_mean():
    vote = EqualVote.fit(np.stack([A, B]), np.array([0, 1]))
    np.testing.assert_allclose(vote.probabilities(np.stack([A, B])), [[0.5, 0.5], [0.25, 0.75]], rtol=0, atol=1e-12)


def test_the_linear_pool_is_a_weighted_mean():
    # 3/4 of A and 1/4 of B: 0.5625 + 0.0625 = 0.625; 0.375 + 0 = 0.375
    pool = LinearPool(np.array([0.75, 0.25]), np.ones(2))
    np.testing.assert_allclose(pool.probabilities(np.stack([A, B])), [[0.625, 0.375], [0.375, 0.625]], atol=1e-12)


def test_the_logarithmic_pool_is_a_product_of_powers():
    # the first has odds of 3, squared, and the second odds of 1/3: 9 / 3 = 3 to 1; even odds do not change 0 to 1
    pool = LogarithmicPool(np.array([2.0, 1.0]))
    np.testing.assert_allclose(pool.probabilities(np.stack([A, B])), [[0.75, 0.25], [0, 1]], rtol=0, atol=1e-9)
    # three members contradict each other, with powers at which their products underflow; then all agree
    models = np.stack([np.eye(3)[[sure, 0]] for sure in range(3)])
    found = LogarithmicPool(np.full(3, 20.0)).probabilities(models)
    np.testing.assert_allclose(found, [[1 / 3] * 3, [1, 0, 0]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", VOTES.values(), ids=VOTES)
def test_no_vote_depends_on_the_order_of_its_members(kind):
    models, labels, order = _random_probabilities(4, 60, 3), np.arange(60) % 3, [2, 0, 3, 1]
    votes = kind.fit(models, labels), kind.fit(models[order], labels)
    np.testing.assert_allclose(votes[0].weights[order], votes[1].weights, rtol=0, atol=1e-4)
    np.testing.assert_allclose(votes[0].probabilities(models), votes[1].probabilities(models[order]), rtol=0, atol=1e-4)
    np.testing.assert_allclose(votes[0].probabilities(models).sum(axis=1), 1)


def test_two_members_that_err_independently_have_the_weights_of_their_own_calibration():
    # For each class: both right, one, none, as often as for two independent members with odds of 3 and 9. Then Bayes
    # multiplies the odds, so that weights of 1 are best; a squared member needs half of that.
    cells = [(first, second) for first in (0, 1) for second in (0, 1) for _ in range((1, 3)[first] * (1, 9)[second])]
    right = np.tile(cells, (1000, 1))  # 40,000 images of class 0, and as many of class 1: the prior does not count
    odds = np.array([3.0, 9.0])
    labels = np.repeat([0, 1], len(right))
    says_0 = np.concatenate([right, 1 - right]) == 1
    share = np.where(says_0, odds / (1 + odds), 1 / (1 + odds)).T
    models = np.stack([share, 1 - share], axis=2)
    np.testing.assert_allclose(LogarithmicPool.fit(models, labels).weights, [1, 1], rtol=0, atol=1e-3)
    models[1] = temper(models[1], 0.5)
    np.testing.assert_allclose(LogarithmicPool.fit(models, labels).weights, [1, 0.5], rtol=0, atol=1e-3)


def test_a_member_that_misleads_has_no_weight():
    labels = np.arange(40) % 2
    good = np.where(np.arange(40)[:, None] % 10, np.eye(2)[labels] * 0.6 + 0.2, 0.5)
    weights = LogarithmicPool.fit(np.stack([good, 1 - good]), labels).weights
    assert weights[1] == 0 < weights[0]
    assert LogarithmicPool.fit(np.stack([1 - good, 1 - good]), labels).weights.tolist() == [0.5, 0.5]


def test_the_loss_of_powers_beyond_what_a_number_holds_is_that_of_the_margins():
    # logits 0 and 1000, then 0 and -1000: losses 1000 and 0, with slopes 50 and 0
    loss, gradient = cross_entropy(np.array([20.0]), np.array([[[0.0, 50.0], [0.0, -50.0]]]))
    assert (loss, gradient.tolist()) == (500, [25])


def test_few_images_of_good_members_leave_the_weights_near_equal_ones():
    # two members that are right on all nine images: sharper probabilities always fit better, without limit
    good = np.tile([0.9, 0.1], (9, 1))
    weights = LogarithmicPool.fit(np.stack([good, good]), np.zeros(9, int)).weights
    assert weights.tolist() == pytest.approx([weights[0]] * 2, abs=1e-6)
    assert 0.5 < weights[0] < 0.8


def test_two_members_that_are_right_in_turn_share_the_weight_in_that_ratio():
    # The first is right on three images, the second on one: the likelihood w ** 3 * (1 - w) is largest at w = 3/4
    labels = np.array([0, 0, 0, 0])
    first = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(fit_weights(np.stack([first, 1 - first]), labels), [0.75, 0.25], rtol=0, atol=1e-6)


def test_fitted_weights_lie_on_the_simplex_and_follow_the_members():
    probabilities, labels = _random_probabilities(4, 60, 3), np.arange(60) % 3
    weights = fit_weights(probabilities, labels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(fit_weights(probabilities[order], labels), weights[order], rtol=0, atol=1e-9)


def test_the_linear_pool_tempers_each_member_before_it_weighs():
    # Both members give the same answers, the second with odds of 9 instead of 3: temperatures 1 and 2, the vote is 3/4
    members = np.stack([np.tile([0.75, 0.25], (40_000, 1)), np.tile([0.9, 0.1], (40_000, 1))])
    vote = LinearPool.fit(members, np.arange(40_000) % 4 // 3)
    np.testing.assert_allclose(vote.temperatures, [1, 2], rtol=1e-3)
    np.testing.assert_allclose(vote.probabilities(members), members[0], rtol=0, atol=1e-3)
