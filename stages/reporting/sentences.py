"""Sentences that describe the numbers, made from the metrics, so that table, README and page agree.

Imports nothing heavy, like the table of scores.
"""

from typing import Any

VOTES = {"equal": "equal vote", "linear_pool": "linear pool", "logarithmic_pool": "logarithmic pool"}
NEARLY_ALL = 0.9  # share of the weight above which an ensemble is almost a single member


def start_in_words(row: dict[str, Any]) -> str:
    """Name the start weights of a model, without the hash of the file, which is in the metrics."""
    if "start" not in row:
        return f"{VOTES[row['voting']]} of {len(row['weights'])}"
    return row["start"].rsplit(" (sha256", 1)[0].removesuffix(".safetensors")


def vote_in_words(scores: dict[str, dict[str, Any]]) -> str:
    """Describe the gain of an ensemble in which one of several members has nearly all the weight; "" for others.

    Args:
        scores: as returned by `read_scores`.
    """
    vote = scores["ensemble"]
    name, weight = max(vote["weights"].items(), key=lambda item: item[1])
    share = weight / sum(vote["weights"].values())
    if share <= NEARLY_ALL or len(vote["weights"]) == 1:
        return ""
    member = scores[name]
    difference = round(100 * (vote["accuracy"] - member["accuracy"]), 1)
    gain = f"is {abs(difference)} points {'more' if difference > 0 else 'less'} accurate than {name} alone"
    return (
        f"The {VOTES[vote['voting']]} is little more than a calibrated {name}: this member has {share:.2f} of the "
        f"weight. On the test split the ensemble {gain if difference else f'is exactly as accurate as {name} alone'}; "
        f"its loss is {vote['loss']:.4f} instead of {member['loss']:.4f}, "
        f"its calibration error {vote['ece']:.4f} instead of {member['ece']:.4f}."
    )


def compare_in_words(ensemble: dict[str, Any], comparison: dict[str, Any]) -> str:
    """Say in two sentences how good the ensemble is, and whether it differs from its best member by more than noise.

    Interval and test must agree.

    Args:
        ensemble, comparison: content of the files with these names.
    """
    best, (lowest, highest) = ensemble["best_member"], comparison["intervals"]["ensemble"]["accuracy"]
    versus = next(pair for pair in comparison["pairs"] if (pair["a"], pair["b"]) == ("ensemble", best))
    difference, low, high, p = (versus[key] for key in ("accuracy_difference", "low", "high", "mcnemar_p"))
    outside, unlikely = low > 0 or high < 0, p < 0.05
    if outside and unlikely:
        verdict = f"more than chance explains: the ensemble is {'better' if difference > 0 else 'worse'}"
    elif outside or unlikely:
        verdict = "a borderline case: interval and test disagree on whether it is more than noise"
    else:
        verdict = "which may be noise on a test split of this size"
    p_words = "p\xa0<\xa00.001" if p < 0.001 else f"p\xa0=\xa0{p:.2g}"
    points = f"{100 * abs(difference):.1f} percentage points {'less' if difference < 0 else 'more'} accurate than"
    return (
        f"The ensemble is right on {100 * ensemble['accuracy']:.1f} % of {comparison['n_images']:,} test images "
        f"(95 % interval {100 * lowest:.1f} to {100 * highest:.1f}). "
        f"It is {points if difference else 'exactly as accurate as'} {best}, its best member on the validation split "
        f"({100 * low:+.1f} to {100 * high:+.1f}; McNemar’s test, uncorrected, {p_words}), {verdict}."
    )
