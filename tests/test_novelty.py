"""Distances to the training pictures: compared with scipy, and with very few pictures."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from stages.doubt import novelty
from stages.doubt.novelty import choose_reference, find_directions, find_limit, fit_cloud, read_cloud, write_cloud


def draw(n: int, n_features: int = 6, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return features of three classes, with more variance in some directions, and labels."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(0, 1, (n_features, n_features)) * 1.4 ** -np.arange(n_features)
    labels = np.arange(n) % 3
    return random.normal(0, 1, (n, n_features)) @ mixing.T + 2 * np.eye(n_features)[labels], labels


@pytest.mark.parametrize("n", [300, 8])  # more pictures than features, and fewer directions than features
def test_with_all_directions_it_is_mahalanobis_distance_to_the_nearest_class(n):
    features, labels = draw(n)
    others = np.random.default_rng(2).normal(0, 5, (20, 6))
    centres = np.stack([features[labels == label].mean(axis=0) for label in range(3)])
    lengths, vectors = np.linalg.eigh(np.cov((features - centres[labels]).T, bias=True) * n / (n - 3))
    kept = min(5, n - 4)
    lengths[: 6 - kept] = lengths[: 6 - kept].mean()
    inverse = vectors / lengths @ vectors.T
    expected = cdist(others, centres, "mahalanobis", VI=inverse).min(axis=1) / 6**0.5
    found = fit_cloud(features, labels, ["layer"], "").distances(others)
    np.testing.assert_allclose(found, expected, rtol=0.01)  # centres are float16


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_directions_are_those_of_a_singular_value_decomposition(shape):
    rows = np.random.default_rng(1).normal(0, 1, shape)
    _, lengths, expected = np.linalg.svd(rows, full_matrices=False)
    squares, directions = find_directions(rows, 3)
    np.testing.assert_allclose(squares, lengths[:3] ** 2)
    np.testing.assert_allclose(np.abs(expected[:3] @ directions), np.eye(3), atol=1e-9)


@pytest.mark.parametrize("labels", [[0], [0, 1], [0, 0], [0, 1, 1]])
def test_a_class_of_one_picture_has_a_finite_distance(labels):
    features = np.random.default_rng(1).normal(0, 1, (len(labels), 4)).astype(np.float32)
    distances = fit_cloud(features, np.array(labels), [], "").distances(np.ones((2, 4), np.float32))
    assert np.isfinite(distances).all()


def test_equal_pictures_and_a_constant_feature_do_no_harm():
    cloud = fit_cloud(np.ones((6, 4), np.float32), np.array([0, 0, 0, 1, 1, 1]), [], "")
    near, far = cloud.distances(np.array([[1, 1, 1, 1], [1, 1, 1, 2]], np.float32))
    assert near < far < np.inf


def test_the_reference_has_as_many_of_each_class_as_there_are_and_stays_the_same(monkeypatch):
    monkeypatch.setattr(novelty, "N_REFERENCE", 8)
    labels = np.array([2, 2, 2, 2, 2, 2, 0, 1, 1, 1, 1])
    rows = choose_reference(labels)
    assert np.bincount(labels[rows]).tolist() == [1, 4, 3] or np.bincount(labels[rows]).tolist() == [1, 3, 4]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, choose_reference(labels))
    np.testing.assert_array_equal(choose_reference(np.array([1, 1, 0])), [0, 1, 2])


@pytest.mark.parametrize("n", [1, 50, 100, 695])
def test_ninety_nine_of_a_hundred_are_within_the_limit(n):
    distances = np.random.default_rng(1).random(n)
    assert (distances <= find_limit(distances)).mean() >= 0.99
    assert (distances < find_limit(distances)).sum() < n


def test_a_cloud_is_the_same_from_its_file(tmp_path):
    features, labels = draw(30)
    cloud = fit_cloud(features, labels, ["backbone.3", "backbone.9"], "head")
    write_cloud(tmp_path / "cnn.novelty.npz", cloud)
    again = read_cloud(tmp_path / "cnn.novelty.npz")
    np.testing.assert_array_equal(again.distances(features), cloud.distances(features))
    assert again.layers.tolist() == ["backbone.3", "backbone.9"]
    assert read_cloud(tmp_path / "other.npz") is None
