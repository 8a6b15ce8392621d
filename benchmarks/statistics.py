"""Test the statistics with simulations whose true values are known, with fixed seeds.

    python -m benchmarks.statistics [RUNS]

Prints how many 95 % intervals contain the true score, how often a test finds a difference that does not exist, the loss
of an ensemble fitted to few images, how many sweeps of equal settings have a star, and the same for two revisions.
Copies come in bursts: nine in ten pictures have the same outcome as their burst. RUNS (2,000) is the number of
simulated splits.
"""

import sys

import numpy as np

from benchmarks.changes import print_comparisons
from stages.scoring import cross_entropy
from stages.scoring.best_set import find_behind
from stages.scoring.calibration import calibration_errors
from stages.scoring.comparison import compare
from stages.scoring.intervals import accuracy_interval, f1_macro_interval
from stages.scoring.temperatures import fit_temperature
from stages.scoring.voting import LogarithmicPool

SHARED = 0.9


def draw(random: np.random.Generator, probabilities: np.ndarray, burst: int) -> np.ndarray:
    """Draw an outcome for each picture; most pictures of a burst share theirs.

    Args:
        probabilities: float, shape (n_bursts, n_outcomes).
    Returns:
        int, shape (n_bursts * burst,).
    """
    cumulated = np.repeat(probabilities.cumsum(axis=1), burst, axis=0)
    own, common = random.random(len(cumulated)), np.repeat(random.random(len(probabilities)), burst)
    fate = np.where(random.random(len(cumulated)) < SHARED, common, own)
    return np.minimum((fate[:, None] > cumulated).sum(axis=1), probabilities.shape[1] - 1)


def cover_accuracy(n_images: int, burst: int, accuracy: float, n_runs: int) -> tuple[float, float]:
    """Return the shares of intervals that contain the true accuracy: computed with groups, and without."""
    random, held, alone = np.random.default_rng(1), [], np.arange(n_images // burst * burst)
    for _ in range(n_runs):
        right = draw(random, np.tile([1 - accuracy, accuracy], (n_images // burst, 1)), burst) == 1
        bounds = [accuracy_interval(right, groups) for groups in (alone // burst, alone)]
        held.append([low <= accuracy <= high for low, high in bounds])
    return tuple(np.mean(held, axis=0).tolist())


def compare_equals(n_images: int, burst: int, doubtful: float, n_runs: int) -> tuple[float, float, float, float]:
    """Compare two equally good models; on a `doubtful` share of the pictures, only one of them is right.

    Returns:
        The share of intervals that contain 0, and of tests that reject: both with groups, then both without.
    """
    random, found, alone = np.random.default_rng(1), [], np.arange(n_images // burst * burst)
    shares = np.array([doubtful / 2, doubtful / 2, 0.8 * (1 - doubtful), 0.2 * (1 - doubtful)])
    for _ in range(n_runs):
        outcomes = draw(random, np.tile(shares, (n_images // burst, 1)), burst)
        right = np.isin(outcomes, (0, 2)), np.isin(outcomes, (1, 2))
        each = [compare(*right, groups) for groups in (alone // burst, alone)]
        found.append([x for one in each for x in (one["low"] <= 0 <= one["high"], one["mcnemar_p"] < 0.05)])
    return tuple(np.mean(found, axis=0).tolist())


def cover_f1(supports: np.ndarray, burst: int, quality: float, n_runs: int) -> float:
    """Return the share of intervals that contain the true macro F1.

    Args:
        supports: number of bursts of each class.
        quality: recalls of the classes have a beta distribution with the parameters quality and 2.
    """
    random, n_classes = np.random.default_rng(1), len(supports)
    recalls = random.beta(quality, 2, n_classes)
    says = np.diag(recalls)  # distribution of the answers for each class
    for label in range(n_classes):
        others = random.choice(np.delete(np.arange(n_classes), label), min(3, n_classes - 1), replace=False)
        says[label, others] = (1 - recalls[label]) * random.dirichlet(np.ones(len(others)))
    joint = (supports / supports.sum())[:, None] * says
    truth = (2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))).mean()
    of_burst = np.repeat(np.arange(n_classes), supports)
    labels, groups = np.repeat(of_burst, burst), np.repeat(np.arange(len(of_burst)), burst)
    bounds = [f1_macro_interval(labels, draw(random, says[of_burst], burst), groups, 1) for _ in range(n_runs)]
    return float(np.mean([low <= truth <= high for low, high in bounds]))


def exceed_calibration(n_images: int, burst: int, n_runs: int) -> float:
    """Return how often the error of a perfectly calibrated model exceeds its bound; it should be one in forty."""
    random, exceed, groups = np.random.default_rng(1), [], np.arange(n_images) // burst
    for _ in range(n_runs):
        confidence = np.repeat(random.beta(4, 1, -(-n_images // burst)), burst)[:n_images] / 2 + 0.5
        wrong = draw(random, np.stack([confidence, 1 - confidence], axis=1)[::burst], burst)[:n_images]
        errors = calibration_errors(wrong, np.stack([confidence, 1 - confidence], axis=1), groups)
        exceed.append(errors["ece"] > errors["ece_bound"])
    return float(np.mean(exceed))


def draw_members(random: np.random.Generator, n_images: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of five members for five classes, (5, n_images, 5), and labels; errors are correlated."""
    labels, strength = random.integers(0, 5, n_images), np.linspace(0.7, 1, 5)[:, None, None] * skill
    noise = np.sqrt(0.6) * random.normal(size=(n_images, 5)) + np.sqrt(0.4) * random.normal(size=(5, n_images, 5))
    return cross_entropy.softmax(strength * (strength * np.eye(5)[labels] + noise)), labels


def fit_few(n_images: int, skill: float, deviation: float, n_runs: int) -> tuple[float, float, float]:
    """Fit the logarithmic pool to few images; return its mean loss on other images, the largest sum of weights, and
    the mean loss of its best member with a fitted temperature.

    Args:
        deviation: standard deviation of the prior; infinite for no prior.
    """
    usual, cross_entropy.PRIOR_DEVIATION = cross_entropy.PRIOR_DEVIATION, deviation
    random, found = np.random.default_rng(1), []
    others, truth = draw_members(random, 5000, skill)
    margins = cross_entropy.margins(others, truth)
    for _ in range(n_runs):
        models, labels = draw_members(random, n_images, skill)
        weights = LogarithmicPool.fit(models, labels).weights
        of_one = 1 / fit_temperature(models[4], labels)
        losses = cross_entropy.cross_entropy(weights, margins)[0], cross_entropy.cross_entropy([of_one], margins[4:])[0]
        found.append([losses[0], weights.sum(), losses[1]])
    cross_entropy.PRIOR_DEVIATION = usual
    loss, total, of_one = zip(*found, strict=True)
    return float(np.mean(loss)), float(np.max(total)), float(np.mean(of_one))


def star_equals(n_rows: int, n_seeds: int, of_seed: float, n_runs: int) -> float:
    """Return the share of sweeps of equal settings that have a star; `of_seed` is the common effect of a seed."""
    random, n_starred = np.random.default_rng(1), 0
    for _ in range(n_runs):
        scores = random.normal(size=(n_rows, n_seeds)) + of_seed * random.normal(size=n_seeds)
        n_starred += find_behind([dict(enumerate(row)) for row in scores]).any()
    return n_starred / n_runs


def main(n_runs: int = 2000) -> None:
    print("accuracy: intervals that hold it, of 95 %: knowing the groups (not knowing them)")
    for n_images in (30, 100, 670):
        for burst in (1, 3, 5):
            each = [(share, *cover_accuracy(n_images, burst, share, n_runs)) for share in (0.5, 0.8, 0.95, 0.99)]
            print(f"  {n_images} images, bursts of {burst}: ", *(f"at {a}: {b:.3f} ({c:.3f})" for a, b, c in each))
    print("two equal models: intervals that hold 0, and tests that reject (not knowing the groups)")
    for n_images in (100, 670):
        for burst in (1, 3, 5):
            each = [(share, *compare_equals(n_images, burst, share, n_runs)) for share in (0.05, 0.2)]
            texts = [f"one right on {a}: {b:.3f}, {c:.3f} ({d:.3f}, {e:.3f})" for a, b, c, d, e in each]
            print(f"  {n_images} images, bursts of {burst}: ", *texts)
    print("macro F1: intervals that hold it, of 95 %")
    unbalanced = np.round(2 + 30 * np.linspace(0, 1, 104) ** 4).astype(int)
    for name, supports in {"104 classes of 2 to 32": unbalanced, "5 classes of 40": np.full(5, 40)}.items():
        for burst in (1, 3, 5):
            each = [cover_f1(supports, burst, quality, n_runs // 4) for quality in (2, 6, 30)]
            print(f"  {name} bursts of {burst}: ", *(f"{share:.3f}" for share in each))
    print("calibration error of a calibrated model: beyond the bound, of 2.5 %")
    for burst in (1, 3):
        print(f"  670 images, bursts of {burst}: {exceed_calibration(670, burst, n_runs):.3f}")
    print("logarithmic pool: loss on other images (largest sum of weights); of the best member, tempered")
    for skill in (2, 3, 4):
        for n_images in (10, 30, 80, 300, 670):
            each = {name: fit_few(n_images, skill, deviation, 30) for name, deviation in DEVIATIONS.items()}
            texts = [f"{name} {a:.3f} ({b:.1f}); {c:.3f}" for name, (a, b, c) in each.items()]
            print(f"  {n_images} images, skill {skill}: ", "   ".join(texts))
    print("sweeps of equal settings with a star, of 5 %")
    for n_rows, n_seeds in ((20, 3), (5, 3), (2, 3), (10, 5)):
        each = [star_equals(n_rows, n_seeds, of_seed, n_runs // 4) for of_seed in (0, 2)]
        print(f"  {n_rows} settings, {n_seeds} seeds: {each[0]:.3f}; with an effect of the seed {each[1]:.3f}")
    print_comparisons(n_runs)


DEVIATIONS = {"no prior": np.inf, "0.25": 0.25, "0.5": 0.5, "1": 1.0}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
