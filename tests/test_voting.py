"""The vote: means worked by hand, and weights and temperatures that are known before they are fitted."""

import numpy as np
import pytest

from stages.ensemble import equal_vote, fitted_vote
from stages.scoring.voting import fit_temperature, fit_weights, soft_vote, temper

A = np.array([[0.75, 0.25], [0.5, 0.5]])
B = np.array([[0.25, 0.75], [0.0, 1.0]])


def _random_probabilities(n_models: int, n_images: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), (n_models, n_images))


def test_soft_vote_is_the_weighted_mean():
    # 3/4 of A and 1/4 of B: 0.5625 + 0.0625 = 0.625; 0.375 + 0 = 0.375
    vote = soft_vote(np.stack([A, B]), np.array([0.75, 0.25]))
    assert vote.tolist() == [[0.625, 0.375], [0.375, 0.625]]


def test_equal_weights_give_the_plain_mean():
    probabilities = _random_probabilities(5, 20, 7)
    vote = equal_vote(5).probabilities(list(probabilities))
    np.testing.assert_allclose(vote, probabilities.mean(axis=0), rtol=0, atol=1e-12)


def test_soft_vote_ignores_model_order():
    probabilities, weights = _random_probabilities(4, 20, 3), np.array([0.1, 0.2, 0.3, 0.4])
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        soft_vote(probabilities[order], weights[order]), soft_vote(probabilities, weights), rtol=0, atol=1e-12
    )


def test_all_weight_on_a_model_gives_its_probabilities():
    assert soft_vote(np.stack([A, B]), np.array([0.0, 1.0])).tolist() == B.tolist()


def test_rows_of_the_vote_sum_to_1():
    vote = soft_vote(_random_probabilities(3, 50, 10).astype(np.float32), np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(vote.sum(axis=1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [0.5, np.nan]])
def test_weights_off_the_simplex_are_refused(weights):
    with pytest.raises(ValueError, match="non-negative weights that sum to 1"):
        soft_vote(np.stack([A, B]), np.array(weights))


@pytest.mark.parametrize("row", [[0.6, 0.6], [np.nan, 1]])
def test_rows_that_do_not_sum_to_1_are_refused(row):
    with pytest.raises(ValueError, match="rows sum to 1"):
        soft_vote(np.array([[row], [[0.5, 0.5]]]), np.array([0.5, 0.5]))


def test_temperature_1_changes_nothing():
    probabilities = _random_probabilities(1, 30, 5)[0]
    np.testing.assert_allclose(temper(probabilities, 1), probabilities, rtol=0, atol=1e-12)


def test_temperature_is_a_power_of_the_probabilities():
    # temperature 1/2 squares: 9/16 : 1/16 = 0.9 : 0.1; temperature 2 takes roots: 0.9 : 0.1 becomes 3 : 1
    np.testing.assert_allclose(temper(np.array([[0.75, 0.25]]), 0.5), [[0.9, 0.1]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(temper(np.array([[0.9, 0.1]]), 2), [[0.75, 0.25]], rtol=0, atol=1e-12)


def test_temperature_never_changes_the_answer():
    probabilities = _random_probabilities(1, 50, 6)[0]
    for temperature in (0.05, 0.5, 2, 20):
        assert (temper(probabilities, temperature).argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_a_sure_answer_keeps_a_finite_temperature():
    assert np.isfinite(temper(np.array([[1.0, 0.0]]), 20)).all()


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
def test_a_known_temperature_is_found_again(temperature):
    # Four images of which three are class 0: the best probability of class 0 is 3/4, at odds of 3.
    # Given odds of 3 ** t, the temperature t brings them back.
    odds = 3.0**temperature
    probabilities = np.tile([odds / (1 + odds), 1 / (1 + odds)], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(temperature, rel=1e-3)


def test_the_fitted_temperature_stays_in_its_bounds():
    probabilities = np.tile([0.6, 0.4], (4, 1))
    assert 1 / 20 <= fit_temperature(probabilities, np.zeros(4, dtype=int)) < 0.06  # always right: as sharp as can be
    assert 19 < fit_temperature(probabilities, np.ones(4, dtype=int)) <= 20


def test_a_perfect_member_gets_all_weight_against_a_uniform_one():
    labels = np.array([0, 1, 2, 1])
    probabilities = np.stack([np.full((4, 3), 1 / 3), np.eye(3)[labels]])
    np.testing.assert_allclose(fit_weights(probabilities, labels), [0, 1], rtol=0, atol=1e-6)


def test_two_members_that_are_right_in_turn_share_the_weight_in_that_ratio():
    # The first knows three images, the second one: the likelihood is w ** 3 * (1 - w), with its maximum at w = 3/4
    labels = np.array([0, 0, 0, 0])
    first = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(fit_weights(np.stack([first, 1 - first]), labels), [0.75, 0.25], rtol=0, atol=1e-6)


def test_fitted_weights_lie_on_the_simplex_and_beat_equal_ones():
    probabilities, labels = _random_probabilities(4, 60, 3), np.arange(60) % 3
    weights = fit_weights(probabilities, labels)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)

    def loss(vote):
        return -np.log(vote[np.arange(60), labels]).mean()

    assert loss(soft_vote(probabilities, weights)) <= loss(probabilities.mean(axis=0))


def test_fitted_weights_follow_the_members_when_their_order_changes():
    probabilities, labels = _random_probabilities(3, 60, 3), np.arange(60) % 3
    order = [2, 0, 1]
    expected = fit_weights(probabilities, labels)[order]
    np.testing.assert_allclose(fit_weights(probabilities[order], labels), expected, rtol=0, atol=1e-9)


def test_the_fitted_vote_tempers_each_member_before_it_weighs():
    # Both members answer alike, the second at odds of 9 instead of 3: the temperatures are 1 and 2, and the vote is 3/4
    first, second = np.tile([0.75, 0.25], (4, 1)), np.tile([0.9, 0.1], (4, 1))
    vote = fitted_vote([first, second], np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(vote.temperatures, [1, 2], rtol=1e-3)
    np.testing.assert_allclose(vote.probabilities([first, second]), first, rtol=0, atol=1e-3)
