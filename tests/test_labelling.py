"""The audit as functions of arrays: wrong labels are found, right labels are not listed."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from stages.labelling.colours import describe_colours
from stages.labelling.examination import MIN_PICTURES, examine
from stages.labelling.likeness import find_alike, find_neighbours, find_overlaps, normalise
from stages.labelling.noise import Noise, fit_noise, judge
from stages.labelling.out_of_fold import predict_out_of_fold, prepare

CLASSES, EACH = 6, 40


def draw(spread: float = 0.5, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels: a cloud of pictures for each class."""
    random, labels = np.random.default_rng(seed), np.repeat(np.arange(CLASSES), EACH)
    features = 3 * np.eye(CLASSES, 8)[labels] + spread * random.standard_normal((len(labels), 8))
    return features.astype(np.float32), labels


def test_labels_that_were_changed_are_listed_first_with_their_right_class_and_few_others():
    features, labels = draw()
    changed = np.arange(3, len(labels), 20)
    wrong = labels.copy()
    wrong[changed] = (labels[changed] + 1) % CLASSES
    found = examine(features, wrong, np.arange(len(labels)), CLASSES)
    listed = found.rank()
    assert set(listed[: len(changed)]) == set(changed)
    assert (found.suggested[changed] == labels[changed]).all()
    assert found.noise.share == pytest.approx(len(changed) / len(labels) * CLASSES / (CLASSES - 1), rel=0.35)
    assert found.wrong[listed].mean() == pytest.approx(len(changed) / len(listed), abs=0.15)


def test_where_all_labels_are_right_hardly_one_is_listed():
    features, labels = draw()
    assert len(examine(features, labels, np.arange(len(labels)), CLASSES).rank()) <= 1


def test_a_picture_is_judged_without_its_copies():
    features, labels = draw(spread=1.5)
    copies = np.arange(0, len(labels), 10)
    rows = np.concatenate([np.arange(len(labels)), copies])
    labels = np.concatenate([labels, (labels[copies] + 1) % CLASSES])
    here = np.arange(len(rows))[-len(copies) :]
    apart, together = (
        predict_out_of_fold(prepare(features[rows]), labels, groups, CLASSES)[here, labels[here]]
        for groups in (np.arange(len(rows)), rows)
    )
    assert together.mean() > apart.mean()  # otherwise a copy with the right label would influence the result


def test_colours_tell_pictures_of_one_shape_apart_wherever_the_margin_is():
    red, blue = np.zeros((2, 20, 20, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    half = np.concatenate([red[:10], blue[10:]])
    found = describe_colours(np.stack([red, blue, half]), 4)
    assert found.shape == (3, 2 * 48 + 125)
    assert found[0, :3].tolist() == [1, 0, 0]  # the mean of the first place
    assert found[:, -125:].argmax(axis=1)[:2].tolist() == [4 * 25, 4]
    np.testing.assert_allclose((found[:, -125:] ** 2).sum(axis=1), 1, rtol=1e-6)
    assert np.sort(found[2, -125:])[-2:] == pytest.approx(0.5**0.5)
    red[:2] = 0  # in the margin
    np.testing.assert_array_equal(describe_colours(red[None], 4)[0], found[0])


def test_a_small_class_is_ranked_and_not_judged():
    features, labels = draw()
    few = np.concatenate([np.flatnonzero(labels < 5), np.flatnonzero(labels == 5)[: MIN_PICTURES - 1]])
    groups = np.arange(len(few))
    assert (examine(features[few], labels[few], groups, CLASSES).judged == (labels[few] < 5)).all()
    few = np.append(few, few[-1])  # a copy makes no class larger
    assert not examine(features[few], labels[few], few, CLASSES).judged[-1]


def test_noise_that_was_drawn_is_fitted():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(10, 0.1), 20_000)
    labels = (probabilities.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    is_noise = random.random(20_000) < 0.2
    labels[is_noise] = random.integers(0, 10, is_noise.sum())
    sharper = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    noise = fit_noise(sharper, labels)
    assert (noise.temperature, noise.share) == (pytest.approx(2, rel=0.05), pytest.approx(0.2, rel=0.05))
    wrong = judge(sharper, labels, noise)
    for low, high in ((0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1)):
        some = (wrong >= low) & (wrong <= high)
        assert is_noise[some].mean() == pytest.approx(wrong[some].mean(), abs=0.03)


def test_a_label_that_chance_alone_explains_is_wrong_for_sure():
    probabilities = np.array([[0.5, 0.5, 0], [0.98, 0.01, 0.01]])
    wrong = judge(probabilities, np.array([0, 0]), Noise(1.0, 0.3))
    np.testing.assert_allclose(wrong, [0.1 / (0.7 * 0.5 + 0.1), 0.1 / (0.7 * 0.98 + 0.1)])


def test_classes_that_are_taken_for_each_other_in_both_directions_are_a_pair():
    labels = np.array([0, 0, 1, 1, 2])
    same, other = [0.5, 0.4, 0.1], [0.0, 0.1, 0.9]
    one_way = np.array([[1, 0, 0], [1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert find_overlaps(one_way, labels) == []
    (pair,) = find_overlaps(np.array([same, same, same, same, other]), labels)
    assert (pair["a"], pair["b"]) == (0, 1)
    assert pair["a_as_b"] == pytest.approx(4 / 9)
    assert pair["b_as_a"] == pytest.approx(5 / 9)


def test_pictures_that_are_each_others_nearest_under_two_labels_are_listed_the_most_alike_first():
    angles = np.array([0.0, 0.02, 1.0, 1.01, 2.0, 2.005])
    features, labels = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.array([0, 1, 0, 1, 1, 1])
    assert find_alike(features, labels, np.array([1, 2, 4])) == [(2, 3), (0, 1)]
    assert find_alike(features, labels, np.array([], dtype=int)) == []


def test_neighbours_are_the_nearest_of_those_that_are_allowed():
    features = normalise(np.array([[0.0, 0], [1, 0], [2, 0.1], [5, 5], [0, 1]]))
    assert np.linalg.norm(features, axis=1) == pytest.approx(1)
    order = find_neighbours(features, 1, np.array([0, 2, 3, 4]))
    assert len(order) == 3
    likeness = features @ features[1]
    assert (np.diff(likeness[order]) <= 0).all()
    assert find_neighbours(features, 1, np.array([], dtype=int)) == []


def test_probabilities_out_of_fold_are_the_same_with_any_number_of_threads():
    random, labels = np.random.default_rng(1), np.arange(1200) % 30
    features = random.normal(0, 1, (1200, 600)).astype(np.float32)
    features[np.arange(1200), labels] += 3
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            inputs = prepare(features)
            found += [inputs.tobytes(), predict_out_of_fold(inputs, labels, np.arange(1200), 30).tobytes()]
    assert found[:2] == found[2:]
