"""Sentences that describe a comparison of two revisions: the same in the terminal, in Markdown and on the page."""

from typing import Any

from stages.experiments.runs import VOTE

HEADINGS = {"val": "on the validation split", "test": "on the test split, which must not be used to choose"}
LEFT_OUT = {"n_elsewhere": "in another split of one of them", "n_relabelled": "of another class in one of them"}
SURE = 0.05
N_CLASSES = 10  # number of classes in the terminal and in Markdown


def describe(content: dict[str, Any]) -> dict[str, str | list[str]]:
    """Return all sentences by topic; "" or an empty list for a topic without a sentence.

    Args:
        content: what `compare` prints as JSON.
    """
    names, n_more = content["names"], len(content["classes"]) - N_CLASSES
    return {
        "heading": f"{names['after']} (after) against {names['before']} (before), {HEADINGS[content['split']]}",
        "overlap": describe_overlap(content),
        "verdict": describe_verdict(content),
        "star": describe_star(content["rows"]),
        "power": describe_power(content),
        "seeds": describe_seeds(content["seeds"]),
        "models": describe_others(content),
        "changed": describe_changed(content),
        "more": [f"and {n_more} more classes"] if n_more > 0 else [],
    }


def describe_overlap(content: dict[str, Any]) -> str:
    """Say how many pictures are compared, and how many are not."""
    n, n_groups = content["n_images"], content["n_groups"]
    text = f"{n:,} pictures are in both"
    if n_groups < n:
        text += f" ({n_groups:,} without their copies, which intervals and tests count together)"
    left_out = [f"{content[key]:,} {words}" for key, words in LEFT_OUT.items() if content[key]]
    return f"{text}; left out: {', '.join(left_out)}." if left_out else f"{text}."


def describe_verdict(content: dict[str, Any]) -> str:
    """Explain whether the ensemble became better or worse, or whether the data are not sufficient to decide."""
    row = next((row for row in content["rows"] if row["model"] == VOTE), None)
    if not row:
        return "The ensemble gives the same probabilities in both."
    difference, (before, after) = row["accuracy_difference"], content["names"].values()
    points = f"{abs(100 * difference):.1f} points {'more' if difference > 0 else 'less'} accurate than"
    outside, unlikely = row["low"] > 0 or row["high"] < 0, row["holm_p"] < SURE
    if outside and unlikely:
        verdict = explain(row, after)
    elif outside or unlikely:
        verdict = "a borderline case: interval and corrected test disagree on whether it is more than noise"
    else:
        verdict = f"which may be noise on {content['n_images']:,} pictures"
    return (
        f"The ensemble of {after} is {points if difference else 'exactly as accurate as'} that of {before} "
        f"(95 % interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}; McNemar's test, mid-p "
        f"{spell_p(row['mid_p'])}, corrected {spell_p(row['holm_p'])}), {verdict}."
    )


def explain(row: dict[str, Any], after: str) -> str:
    """Explain a difference that is larger than the choice of pictures explains."""
    better = "better" if row["accuracy_difference"] > 0 else "worse"
    if "seed_p" not in row:
        return f"more than the choice of pictures explains: this training of {after} is {better}"
    over_seeds = f"(over the seeds, by Student's test, p {spell_p(row['seed_p'])})"
    if row["seed_p"] >= SURE:
        return f"more than the choice of pictures explains, but not more than that of seeds {over_seeds}"
    return f"more than the choice of pictures and of seeds explains {over_seeds}: {after} is {better}"


def describe_star(rows: list[dict[str, Any]]) -> str:
    """Explain the star, if there is one."""
    has_star = any(row["holm_p"] < SURE for row in rows)
    return f"* below {SURE} with Holm's correction for {len(rows)} rows" if has_star else ""


def describe_power(content: dict[str, Any]) -> str:
    """Say how many pictures would be enough to decide."""
    needs = [
        f"{row['model']} ({100 * row['accuracy_difference']:+.1f} points) {round_up(row['n_needed']):,}"
        for row in content["rows"]
        if row["low"] <= 0 <= row["high"] and row["n_needed"]
    ]
    if not needs:
        return ""
    return (
        "Number of pictures needed to distinguish a difference of this size from noise with 80 % power: "
        f"{', '.join(needs)}. There are {content['n_images']:,} here."
    )


def describe_seeds(seeds: list[int]) -> str:
    """Explain to which seeds the numbers apply."""
    if seeds:
        return (
            f"Differences are means over the seeds {', '.join(map(str, seeds))}; ± is their standard deviation from "
            "seed to seed. Intervals and mid-p apply to these trainings on other pictures, not to other seeds."
        )
    return (
        "Intervals and tests apply to these two trainings on other pictures; another seed may change as much (--over "
        "seed)."
    )


def describe_others(content: dict[str, Any]) -> list[str]:
    """Name the models that are not compared."""
    groups = {
        "The same predictions in both": content["unchanged"],
        **{f"Only in {name}": content["only"][side] for side, name in content["names"].items()},
    }
    return [f"{words}: {', '.join(models)}." for words, models in groups.items() if models]


def describe_changed(content: dict[str, Any]) -> str:
    """Count the changed answers of the ensemble."""
    if not content["n_changed"]:
        return "The ensemble gives the same answer for every picture."
    gained, lost, other = (sum(each[kind] for each in content["classes"]) for kind in ("gained", "lost", "other"))
    return (
        f"The ensemble's answer changed for {content['n_changed']:,} of {content['n_images']:,} pictures: {gained:,} "
        f"were wrong and are right, {lost:,} were right and are wrong, {other:,} are wrong in another way."
    )


def round_up(n: int) -> int:
    """Round a number of pictures up to two digits."""
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def spell_p(p: float) -> str:
    """Write a p-value with two digits."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
