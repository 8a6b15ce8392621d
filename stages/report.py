"""The metrics folder in, one self-contained HTML page out: it opens with no network.

    python -m stages.report metrics metrics/report.html

The same metrics give the same bytes: no date and no timing is in it.
"""

import argparse
import base64
import io
import json
import math
from pathlib import Path
from typing import Any

from stages.dataset.rejections import REASONS
from stages.reporting.score_table import (
    SCORES,
    best_models,
    find_score_fault,
    is_number,
    read_scores,
    start_in_words,
)
from stages.reporting.stage_names import scoring_stage, training_stage
from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import run_stage
from stages.scoring.class_tables import (
    AMOUNT,
    COUNT,
    SHARE,
    read_class_counts,
    read_confusion,
    read_per_class,
    read_table,
)
from stages.training.history import COLUMNS

TEMPLATE = Path(__file__).parent / "reporting" / "report.html.j2"
PLOT = {"left": 30, "right": 212, "top": 10, "bottom": 104}  # of a training curve, in its 220 x 124 units
N_PAIRS = 15
HISTORY = dict.fromkeys(COLUMNS, COUNT) | {
    "lr": AMOUNT,
    "train_loss": AMOUNT,
    "train_accuracy": SHARE,
    "val_loss": AMOUNT,
    "val_accuracy": SHARE,
}
VERSUS = ("accuracy_difference", "low", "high", "mcnemar_p")


def embed_png(path: Path, stage: str) -> str:
    """Return the picture, which the stage draws, as a data URI.

    Raises:
        UserError: it is missing or damaged.
    """
    return "data:image/png;base64," + base64.b64encode(_read_png(path, stage)).decode()


def embed_photos(path: Path, stage: str) -> str:
    """Return the sample images as a WebP data URI: a tenth of the PNG's bytes, and still transparent.

    Raises:
        UserError: the picture is missing or damaged.
    """
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(_read_png(path, stage))) as image:
        image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _read_png(path: Path, stage: str) -> bytes:
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()  # the check sums of all its parts
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        fault = f"expected a PNG picture, found none that can be read ({error})"
        raise UserError(f"{path}: {fault}; run `dvc repro {stage}`") from None
    return content


def read_history(path: Path, model: str) -> list[dict[str, str]]:
    """Read the `history.csv` of a model's training; every value stays text.

    Raises:
        UserError: it is missing or damaged, or has not every epoch, or not the best one.
    """
    stage = training_stage(model)
    rows = read_table(path, HISTORY, stage)
    epochs, best = [int(row["epoch"]) for row in rows], [row["best"] for row in rows].count("1")
    if epochs != [*range(1, len(rows) + 1)] or best != 1:
        fault = f"expected the epochs from 1 on and one best of them, found {len(rows)} epochs and {best} best"
        raise UserError(f"{path}: {fault}; run `dvc repro {stage}`")
    return rows


def read_facts(path: Path, n_images: dict[str, int]) -> dict[str, Any]:
    """Read the `dataset.json` of the split.

    Raises:
        UserError: it is missing or damaged, or tells of other images.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        numbers = [facts[key] for key in ("largest_class", "smallest_class", "n_exact_copies", "n_near_copies")]
        numbers += [facts["n_groups_of_copies"], facts["n_first_frame_only"]]
        numbers += [facts[side][name] for side in ("width_px", "height_px") for name in ("min", "median", "max")]
        numbers += [count for key in ("n_rejected", "n_passed_over") for count in facts[key].values()]
        numbers += [facts["n_rejected"]["total"], facts["n_passed_over"]["total"]]
        others = facts["n_rejected"].keys() - {"total", *REASONS}
        is_right = facts["n_images"] == n_images | {"total": sum(n_images.values())} and not others
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        fault = f"expected the facts of {sum(n_images.values())} images, found none that can be read ({error!r:.100})"
        raise UserError(f"{path}: {fault}; run `dvc repro split`") from None
    if not is_right or not all(is_number(number, 0, math.inf) for number in numbers):
        fault = "expected the facts of the images that class_counts.csv counts, found other ones"
        raise UserError(f"{path}: {fault}; run `dvc repro split`")
    return facts


def check_scores(path: Path, scores: dict[str, Any], n_images: dict[str, int]) -> None:
    """Refuse scores that lack what the page shows of them, or that belong to other images than those that were split.

    Args:
        path: of their JSON file.
        n_images: of the splits val and test.
    Raises:
        UserError: a value is missing, senseless, or another than it has to be.
    """
    splits = {"val": "val", **({"equal": "test", "fitted": "test"} if path.stem == "ensemble" else {})}
    for block, split in ((scores, "test"), *((scores.get(key), split) for key, split in splits.items())):
        fault = find_score_fault(block)
        if not fault and block.get("n_images") != n_images[split]:
            found = f"{block.get('n_images')!r:.80}"
            fault = f"expected n_images {n_images[split]}, as class_counts.csv counts {split}, found {found}"
        if fault:
            break
    fault = fault or (_find_comparison_fault(scores) if path.stem == "ensemble" else _find_model_fault(scores))
    if fault:
        raise UserError(f"{path}: {fault}; run `dvc repro {scoring_stage(path.stem)}`")


def _find_model_fault(scores: dict[str, Any]) -> str:
    n = scores.get("n_parameters")
    return "" if type(n) is int and n > 0 else f"expected n_parameters as a whole number, found {n!r:.80}"


def _find_comparison_fault(scores: dict[str, Any]) -> str:
    members, temperatures, versus = scores["weights"], scores.get("temperatures"), scores.get("vs_best_member")
    if not isinstance(temperatures, dict) or {*temperatures} != {*members}:
        return f"expected temperatures of {', '.join(members)}, found {temperatures!r:.80}"
    if not all(is_number(value, 0, math.inf) for value in temperatures.values()):
        return f"expected temperatures as numbers of 0 or more, found {temperatures!r:.80}"
    if scores.get("best_member") not in [*members]:
        return f"expected best_member as one of {', '.join(members)}, found {scores.get('best_member')!r:.80}"
    if not isinstance(versus, dict) or not all(is_number(versus.get(key), -1, 1) for key in VERSUS):
        return f"expected vs_best_member with {', '.join(VERSUS)}, found {versus!r:.80}"
    return ""


def plot_training(histories: dict[str, list[dict[str, str]]], n_classes: int) -> list[dict[str, Any]]:
    """Turn the histories into the coordinates of small SVG plots that share their vertical scales.

    Args:
        histories: {model: rows of its history.csv}.
        n_classes: the scale of the loss ends at twice the loss of guessing, ln(n_classes): a first epoch that
            explodes would else press all curves flat.
    Returns:
        A dict a model: name, n_epochs, best (epoch), plots (of accuracy and loss).
    """
    losses = [float(row[key]) for rows in histories.values() for row in rows for key in ("train_loss", "val_loss")]
    top = min(max(filter(math.isfinite, losses), default=1), 2 * math.log(max(n_classes, 2)))
    step = next(step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10) if top / step <= 5)
    scales = {"accuracy": [0, 0.25, 0.5, 0.75, 1], "loss": [step * i for i in range(max(math.ceil(top / step), 1) + 1)]}
    return [
        {
            "name": name,
            "n_epochs": len(rows),
            "best": next((row["epoch"] for row in rows if row["best"] == "1"), None),
            "plots": [_plot(rows, score, ticks) for score, ticks in scales.items()],
        }
        for name, rows in histories.items()
    ]


def _plot(rows: list[dict[str, str]], score: str, ticks: list[float]) -> dict[str, Any]:
    width, height = PLOT["right"] - PLOT["left"], PLOT["bottom"] - PLOT["top"]

    def x(i: int) -> float:
        return round(PLOT["left"] + width * (i / (len(rows) - 1) if len(rows) > 1 else 0.5), 1)

    def y(value: float) -> float:
        return round(PLOT["bottom"] - height * min(value / ticks[-1], 1.5), 1)

    def points(split: str, only_best: bool = False) -> list[tuple[float, float]]:
        values = [
            (i, float(row[f"{split}_{score}"])) for i, row in enumerate(rows) if not only_best or row["best"] == "1"
        ]
        return [(x(i), y(value)) for i, value in values if math.isfinite(value)]

    return {
        "score": score,
        "ticks": [(y(tick), f"{tick:g}") for tick in ticks],
        "best": next(iter(points("val", only_best=True)), None),
        **{split: " ".join(f"{across},{down}" for across, down in points(split)) for split in ("train", "val")},
    }


def rank_classes(per_class: dict[str, list[dict[str, str]]]) -> list[dict[str, Any]]:
    """List the classes, the worst first by the ensemble's F1, then by the mean F1 of all models.

    Args:
        per_class: {model: rows of its per_class.csv}, the ensemble among them.
    Returns:
        A dict a class: name, support, f1 ({model: F1}).
    """
    f1 = {model: {row["class"]: float(row["f1"]) for row in rows} for model, rows in per_class.items()}
    classes = [
        {"name": row["class"], "support": int(row["support"]), "f1": {model: f1[model][row["class"]] for model in f1}}
        for row in per_class["ensemble"]
    ]
    return sorted(classes, key=lambda each: (each["f1"]["ensemble"], sum(each["f1"].values()), each["name"]))


def compare_in_words(ensemble: dict[str, Any]) -> str:
    """Say whether the ensemble differs from its best member by more than noise: interval and test must agree."""
    versus, n_images = ensemble["vs_best_member"], ensemble["n_images"]
    difference, low, high, p = (versus[key] for key in ("accuracy_difference", "low", "high", "mcnemar_p"))
    outside, unlikely = low > 0 or high < 0, p < 0.05
    if outside and unlikely:
        verdict = f"That is more than chance explains: the ensemble is {'better' if difference > 0 else 'worse'}."
    elif outside or unlikely:
        verdict = "That is borderline: interval and test disagree on whether it is more than noise."
    else:
        verdict = "That cannot be told from noise on a test split of this size."
    p_words = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    points = f"{100 * abs(difference):.1f} percentage points {'less' if difference < 0 else 'more'} accurate than"
    return (
        f"On {n_images:,} test images the ensemble is {points if difference else 'exactly as accurate as'} "
        f"{ensemble['best_member']}, its best member on the "
        f"validation split (95 % bootstrap interval {100 * low:+.1f} to {100 * high:+.1f}; McNemar’s test {p_words}). "
        f"{verdict}"
    )


def gather(metrics: Path) -> dict[str, Any]:
    """Read what the page shows: everything that the template names, and nothing else."""
    from stages.scoring.confusion import most_confused

    scores = read_scores(metrics)
    counts = read_class_counts(metrics / "class_counts.csv", "split")
    n_images = {split: sum(int(row[split]) for row in counts) for split in ("train", "val", "test")}
    for name, row in scores.items():
        check_scores(metrics / f"{name}.json", row, n_images)
    tests = {row["class"]: int(row["test"]) for row in counts}
    stages = {name: scoring_stage(name) for name in scores}
    models = [name for name in scores if name != "ensemble"]
    histories = {name: read_history(metrics / name / "history.csv", name) for name in models}
    classes = {name: read_per_class(metrics / name / "per_class.csv", tests, stages[name]) for name in scores}
    confusion = read_confusion(metrics / "ensemble" / "confusion.csv", tests, stages["ensemble"])
    return {
        "scores": scores,
        "models": models,
        "score_names": SCORES,
        "start_in_words": start_in_words,
        "best": best_models(scores),
        "n_images": n_images,
        "n_classes": len(counts),
        "dataset": read_facts(metrics / "dataset.json", n_images),
        "reasons": REASONS,
        "comparison": compare_in_words(scores["ensemble"]),
        "training": plot_training(histories, len(counts)),
        "plot_area": PLOT,
        "classes": rank_classes(classes),
        "pairs": most_confused(confusion, N_PAIRS).to_dict("records"),
        "samples": embed_photos(metrics / "samples.png", "split"),
        "class_counts": embed_png(metrics / "class_counts.png", "split"),
        "confusions": {name: embed_png(metrics / name / "confusion.png", stage) for name, stage in stages.items()},
    }


def render_report(metrics: Path) -> str:
    """Return the page as HTML.

    Raises:
        UserError: a file of the metrics folder is missing or damaged, or belongs to other images or classes.
    """
    import jinja2

    content = gather(metrics)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(content)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write one self-contained page about all of the metrics.")
    parser.add_argument("metrics", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    write_text(arguments.page, render_report(arguments.metrics))


if __name__ == "__main__":
    run_stage(main)
