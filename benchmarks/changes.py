"""Test the comparison of two revisions with simulations whose true difference is known, with fixed seeds.

`python -m benchmarks.statistics` prints the results. Two classifiers find the same pictures difficult. Copies come in
bursts; nine in ten pictures have the same outcome as their burst.
"""

import numpy as np

from stages.scoring.changes import compare_change, count_needed
from stages.scoring.comparison import flip_signs
from stages.scoring.cross_entropy import log, softmax

N_CLASSES = 5
SHARED = 0.9
MANY = 400_000  # pictures; their difference is used as the true one

Skills = tuple[float, float]
Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw_pair(random: np.random.Generator, n_images: int, burst: int, skills: Skills, n_seeds: int = 1) -> Pair:
    """Draw the predictions of two classifiers with these skills.

    Returns:
        labels, (n_images,); their probabilities, (n_seeds, n_images, n_classes) each; groups, (n_images,).
    """
    groups = np.arange(n_images) // burst
    has_own = random.random(n_images) > SHARED
    units = np.where(has_own, groups.max() + 1 + np.arange(n_images), groups)  # the unit whose outcome a picture shares
    labels = random.integers(0, N_CLASSES, groups.max() + 1)[groups]
    shape = (units.max() + 1, N_CLASSES)
    hard, said = random.normal(size=shape), []
    for skill in skills:
        noise = np.sqrt(0.6) * hard + np.sqrt(0.4) * random.normal(size=(n_seeds, *shape))
        said.append(softmax(2 * (skill * np.eye(N_CLASSES)[labels] + noise[:, units])))
    return labels, *said, groups


def compute_differences(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return which classifier alone is right (1: the second, -1: the first), and the loss differences, each
    (n_seeds, n_images).
    """
    labels, before, after, _ = pair
    right = [(each.argmax(axis=2) == labels).astype(int) for each in (before, after)]
    losses = [-log(each[:, np.arange(len(labels)), labels]) for each in (before, after)]
    return right[1] - right[0], losses[1] - losses[0]


def find_truth(skills: Skills) -> tuple[float, float]:
    """Return the true differences of accuracy and loss."""
    gains, growth = compute_differences(draw_pair(np.random.default_rng(0), MANY, 1, skills))
    return float(gains.mean()), float(growth.mean())


def resample_mean(random: np.random.Generator, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return a percentile interval of the mean from a bootstrap over groups, to compare with Student's t."""
    parts = np.stack([np.bincount(groups), np.bincount(groups, values)])
    drawn = random.integers(0, parts.shape[1], (1000, parts.shape[1]))
    sizes, sums = parts[:, drawn].sum(axis=2)
    return np.quantile(sums / sizes, [0.025, 0.975])


def compare_pairs(
    n_images: int, burst: int, skills: Skills, truth: tuple[float, float], n_runs: int, n_seeds: int = 1
) -> dict[str, float]:
    """Return the shares of comparisons whose interval contains the true difference, and whose test finds a difference.

    Returns:
        accuracy, loss (intervals), resampled (interval of the loss by bootstrap), mid_p, exact (tests at 5 %).
    """
    random, others, found = np.random.default_rng(1), np.random.default_rng(2), []
    for _ in range(n_runs):
        pair = draw_pair(random, n_images, burst, skills, n_seeds)
        each, groups, (gains, growth) = compare_change(*pair), pair[3], compute_differences(pair)
        low, high = resample_mean(others, growth.mean(axis=0), groups)
        found.append(
            {
                "accuracy": each["low"] <= truth[0] <= each["high"],
                "loss": each["loss_low"] <= truth[1] <= each["loss_high"],
                "resampled": low <= truth[1] <= high,
                "mid_p": each["mid_p"] < 0.05,
                "exact": flip_signs(gains.sum(axis=0), groups) < 0.05,
            }
        )
    return {key: float(np.mean([each[key] for each in found])) for key in found[0]}


def find_power(burst: int, skills: Skills, n_runs: int) -> tuple[int, float]:
    """Return the number of pictures from `count_needed`, and the share of tests on so many that find the difference."""
    pair = draw_pair(np.random.default_rng(0), MANY, burst, skills)
    n = count_needed(compute_differences(pair)[0][0], pair[3])
    return n, compare_pairs(n, burst, skills, (0, 0), n_runs)["mid_p"]


def print_comparisons(n_runs: int) -> None:
    """Print the results of all simulations."""
    print(
        "two revisions: intervals that hold the difference of accuracy, of loss (by a bootstrap); tests by mid-p that"
    )
    print("reject that they are equal (exact ones)")
    for skills in ((1.0, 1.0), (1.6, 1.6), (1.0, 1.1)):
        truth = find_truth(skills) if skills[0] != skills[1] else (0, 0)
        for n_images in (50, 200, 700):
            for burst in (1, 3):
                each = compare_pairs(n_images, burst, skills, truth, n_runs)
                print(f"  skills {skills}, {n_images} images, bursts of {burst}: {spell(each)}")
    each = compare_pairs(300, 1, (1.0, 1.0), (0, 0), n_runs, n_seeds=3)
    print(f"  skills (1.0, 1.0), 300 images, three seeds: {spell(each)}")
    print("pictures that a difference needs for 80 % power, and how many tests on so many find it")
    for burst, skills in ((1, (1.0, 1.4)), (3, (1.0, 1.4)), (1, (1.6, 2.0))):
        n, share = find_power(burst, skills, n_runs)
        print(f"  skills {skills}, bursts of {burst}: {n} pictures, {share:.3f}")


def spell(each: dict[str, float]) -> str:
    words = "{accuracy:.3f}, {loss:.3f} ({resampled:.3f}); {mid_p:.3f} ({exact:.3f})"
    return words.format(**each)
