"""limits.json, calculated by hand for two members."""

import numpy as np
import pytest

from stages.doubt.limits import (
    Limits,
    LimitsFile,
    fit_limits,
    measure_limits,
    pool_distances,
    read_limits,
    write_limits,
)
from stages.doubt.sets import Calibration
from stages.scoring.predictions import Predictions

SETS = Calibration(3, [0.25])


def predict(n: int = 200) -> Predictions:
    random = np.random.default_rng(1)
    probabilities, labels = random.dirichlet(np.ones(3), n), random.integers(0, 3, n)
    return Predictions(probabilities, labels, np.arange(n), probabilities, labels, np.arange(n), np.array(list("abc")))


def test_a_vote_takes_the_distance_of_each_member_in_units_of_its_limit_by_weight():
    distances, limits = np.array([[1.0, 4.0], [6.0, 3.0], [np.inf, 0.0]]), [Limits(limit, SETS) for limit in (2, 3, 1)]
    assert pool_distances(distances[:2], limits[:2], np.array([0.5, 1.5])).tolist() == [1.625, 1.25]
    distances[2] = 1e9  # a member without weight
    assert pool_distances(distances, limits, np.array([0.5, 1.5, 0])).tolist() == [1.625, 1.25]


def test_limits_are_those_of_the_validation_pictures_and_test_pictures_are_counted():
    members = {"one": predict(), "other": predict()}
    distances = np.stack([np.arange(200.0), np.arange(200.0)]) + 1
    limits = fit_limits(members, predict(), distances, np.array([1.0, 0.0]), seed=1)
    assert [each.distance for each in limits.members.values()] == [199, 199]  # at most one in a hundred is beyond
    assert limits.vote.distance == 1
    assert limits.vote.sets.n_groups == 200
    measured = measure_limits(limits, predict(), 2 * distances, np.array([1.0, 0.0]))
    assert measured["unlike"] == 0.505  # from 2 * 100 on
    assert list(measured["sets"]) == ["90", "95", "99"]


def test_limits_are_the_same_from_their_file(tmp_path):
    limits = LimitsFile(Limits(1 / 3, SETS), {"vote": Limits(0.5, Calibration(7, [])), "cnn": Limits(2.0, SETS)})
    write_limits(tmp_path / "limits.json", limits)
    assert read_limits(tmp_path / "limits.json") == limits
    assert read_limits(tmp_path / "others.json") is None


@pytest.mark.parametrize("coverage", [0.9, 0.99])
def test_a_member_alone_is_calibrated_at_a_temperature_that_its_picture_had_no_part_in(coverage):
    members = {"one": predict(300)}
    limits = fit_limits(members, predict(300), np.ones((1, 300)), np.ones(1), seed=1)
    assert 0 < limits.members["one"].sets.limit(coverage) < 1
