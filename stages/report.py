"""The metrics folder in, one self-contained HTML page out: it opens with no network.

    python -m stages.report metrics metrics/report.html

The same metrics give the same bytes: no date and no timing is in it.
"""

import argparse
import base64
import csv
import io
import math
from pathlib import Path
from typing import Any

from stages.shared.errors import UserError
from stages.shared.files import write_text
from stages.shared.running import run_stage
from stages.shared.score_table import SCORES, best_models, read_scores, start_in_words

TEMPLATE = Path(__file__).parent / "shared" / "report.html.j2"
PLOT = {"left": 30, "right": 212, "top": 10, "bottom": 104}  # of a training curve, in its 220 x 124 units
N_PAIRS = 15


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header line; every value stays text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def embed_png(path: Path) -> str:
    """Return the picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def embed_photos(path: Path) -> str:
    """Return the sample images as a WebP data URI: a tenth of the PNG's bytes, and still transparent."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


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
    import pandas as pd

    from stages.shared.confusion import most_confused

    scores = read_scores(metrics)
    counts = read_rows(metrics / "class_counts.csv")
    models = [name for name in scores if name != "ensemble"]
    # na_filter: a class may be called "nan"
    frame = pd.read_csv(metrics / "ensemble" / "confusion.csv", index_col=0, dtype={0: str}, na_filter=False)
    return {
        "scores": scores,
        "models": models,
        "score_names": SCORES,
        "start_in_words": start_in_words,
        "best": best_models(scores),
        "n_images": {split: sum(int(row[split]) for row in counts) for split in ("train", "val", "test")},
        "n_classes": len(counts),
        "comparison": compare_in_words(scores["ensemble"]),
        "training": plot_training({name: read_rows(metrics / name / "history.csv") for name in models}, len(counts)),
        "plot_area": PLOT,
        "classes": rank_classes({name: read_rows(metrics / name / "per_class.csv") for name in scores}),
        "pairs": most_confused(frame, N_PAIRS).to_dict("records"),
        "samples": embed_photos(metrics / "samples.png"),
        "class_counts": embed_png(metrics / "class_counts.png"),
        "confusions": {name: embed_png(metrics / name / "confusion.png") for name in scores},
    }


def render_report(metrics: Path) -> str:
    """Return the page as HTML.

    Raises:
        UserError: a file of the metrics folder is missing.
    """
    import jinja2

    try:
        content = gather(metrics)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; make it with `dvc repro`") from None
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
