"""Heads that are fitted to features: the same as scikit-learn's, with copies in one fold."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from stages.training import heads
from stages.training.heads import fit_head, fit_regression


def points(n_classes: int, n_each: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, 4) around a centre for each class, far from 0 and of very different spread, and labels."""
    rng = np.random.default_rng(1)
    labels = np.arange(n_classes * n_each) % n_classes
    centres = rng.normal(size=(n_classes, 4)) * 2
    return ((centres[labels] + rng.normal(size=(len(labels), 4))) * [1, 10, 0.1, 1] + 50).astype(np.float32), labels


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_answers_as_scikit_learn_does_on_standardised_features(n_classes, monkeypatch):
    monkeypatch.setattr(heads, "STRENGTHS", (0.1,))
    features, labels = points(n_classes)
    head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, n_classes))
    fit_head(head, np.stack([features, features]), labels, np.arange(len(labels)))
    scaled = StandardScaler().fit_transform(features)
    expected = LogisticRegression(C=0.1, max_iter=300).fit(scaled, labels).predict_proba(scaled)
    with torch.no_grad():
        found = head.eval()(torch.from_numpy(features)).softmax(dim=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_class_without_training_images_is_never_answered():
    features, labels = points(2)
    features = features.reshape(-1, 2, 2)
    head = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    fit_head(head, features[None], 2 * labels, np.arange(len(labels)))  # classes 0 and 2 of 4
    with torch.no_grad():
        assert head(torch.from_numpy(features)).softmax(dim=1)[:, [1, 3]].max() < 1e-6


def test_copies_do_not_make_a_weak_penalty_look_good():
    # pure noise with three copies each: only a model that has seen a copy knows the answer
    rng = np.random.default_rng(2)
    features, labels = np.repeat(rng.normal(size=(30, 40)), 3, axis=0), np.repeat(rng.integers(0, 2, 30), 3)
    strengths = np.array([1e-4, 10.0])
    assert fit_regression(features, labels, np.repeat(np.arange(30), 3), strengths).C_ == 1e-4
    assert fit_regression(features, labels, rng.permutation(90), strengths).C_ == 10


def test_one_group_has_no_folds_and_a_fold_may_lack_a_class():
    features, labels = points(3, 4)
    features, strengths = StandardScaler().fit_transform(features), np.array([0.1, 1])
    for groups in (np.zeros(12), np.where(labels == 2, 0, np.arange(12))):  # one group; class 2 in one group
        assert fit_regression(features, labels, groups, strengths).classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "groups",
    [
        {0: [0], 1: [1]},  # two classes of three photographs: one of each is for training
        {0: [0, 0, 0, 0], 1: [1, 2, 3, 4]},  # all of a class are frames of one video
    ],
)
def test_a_head_is_fitted_where_a_fold_would_leave_one_class_alone(groups):
    labels = np.array([label for label, its in groups.items() for _ in its])
    features = (np.eye(4)[labels] + np.linspace(0, 0.1, len(labels))[:, None]).astype(np.float32)
    head = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    fit_head(head, features[None], labels, np.concatenate(list(groups.values())))
    with torch.no_grad():
        assert head(torch.from_numpy(features)).argmax(dim=1).tolist() == labels.tolist()
