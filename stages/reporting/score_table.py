"""The metrics folder in, the table of scores out: for the terminal, for the README, and as rows for the report.

    python -m stages.reporting.score_table [--markdown] [metrics]

Imports nothing heavy: the table is there in a tenth of a second.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from stages.reporting.stage_names import scoring_stage
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly

FIRST = ["cnn", "vgg16", "resnet50", "vgg19_pretrained", "resnet50_pretrained"]
SCORES = {"accuracy": "accuracy", "loss": "loss", "f1_macro": "macro F1", "top5_accuracy": "top-5", "ece": "ECE"}
SMALLER_IS_BETTER = {"loss", "ece"}
NOT_MODELS = {"ensemble", "dataset"}
MODELS = Path(__file__).parent.parent / "models"


def read_scores(metrics: Path | str) -> dict[str, dict[str, Any]]:
    """Read the scores of every model, in the order of the table, and last those of the ensemble.

    Returns:
        {model: what its JSON file says}; the last key is "ensemble".
    Raises:
        UserError: a file is missing, is no JSON, or lacks a score.
    """
    metrics = Path(metrics)
    ensemble = _read(metrics / "ensemble.json")
    found = {path.stem for path in metrics.glob("*.json")} | set(ensemble["weights"])
    names = sorted(found - NOT_MODELS, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return {name: _read(metrics / f"{name}.json") for name in names} | {"ensemble": ensemble}


def _read(path: Path) -> dict[str, Any]:
    remedy = f"run `dvc repro {scoring_stage(path.stem)}`"
    if not (MODELS / f"{path.stem}.py").is_file() and path.stem != "ensemble":
        remedy = f"remove it, or add stages/models/{path.stem}.py"
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError:  # it may be whole: run_stage says what to do
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected scores, found no JSON file ({error}); {remedy}") from None
    fault = find_score_fault(scores) or (_find_vote_fault if path.stem == "ensemble" else _find_start_fault)(scores)
    if fault:
        raise UserError(f"{path}: {fault}; {remedy}")
    return scores


def find_score_fault(scores: Any) -> str:
    """Say what was expected and what was found if a block of a JSON file holds no scores; an empty text if it does."""
    if not isinstance(scores, dict):
        return f"expected scores, found {scores!r:.80}"
    for key in SCORES:
        most = math.inf if key == "loss" else 1
        if not is_number(scores.get(key), 0, most):
            limits = "of 0 or more" if key == "loss" else "from 0 to 1"
            return f"expected {key} as a number {limits}, found {scores.get(key, 'none')!r:.80}"
    return ""


def is_number(value: Any, least: float, most: float) -> bool:
    """Say whether a value of a JSON file is a finite number between two others."""
    return type(value) in (int, float) and least <= value <= min(most, sys.float_info.max)


def _find_start_fault(scores: dict[str, Any]) -> str:
    start = scores.get("start")
    return "" if start and isinstance(start, str) else f"expected start as a text, found {start!r:.80}"


def _find_vote_fault(scores: dict[str, Any]) -> str:
    voting, weights = scores.get("voting"), scores.get("weights")
    if voting not in ("equal", "fitted"):
        return f"expected voting as equal or fitted, found {voting!r:.80}"
    if not isinstance(weights, dict) or not all(is_number(weight, 0, 1) for weight in weights.values()):
        return f"expected weights as a number from 0 to 1 a member, found {weights!r:.80}"
    total = sum(weights.values())
    return "" if abs(total - 1) < 1e-3 else f"expected weights that sum to 1, found a sum of {total:g}"


def best_models(scores: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return for each score the models that have its best value, as printed with four decimals."""
    best = {}
    for key in SCORES:
        values = {name: round(row[key], 4) for name, row in scores.items()}
        target = (min if key in SMALLER_IS_BETTER else max)(values.values())
        best[key] = {name for name, value in values.items() if value == target}
    return best


def table_cells(scores: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the table as text: a row of headings, then a row a model."""
    return [["model", "starts from", *SCORES.values()]] + [
        [name, start_in_words(row), *(f"{row[key]:.4f}" for key in SCORES)] for name, row in scores.items()
    ]


def start_in_words(row: dict[str, Any]) -> str:
    """Name the folder of the weights, as params.yaml does: the file and its hash are in the metrics."""
    if "start" not in row:
        return f"{row['voting']} vote of {len(row['weights'])}"
    file = Path(row["start"].split(" (")[0])
    return file.parent.as_posix() if file.suffix else row["start"]


def render_text(scores: dict[str, dict[str, Any]]) -> str:
    """Align the table for a terminal: words to the left, numbers to the right."""
    cells = table_cells(scores)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [f"<{width}" if i < 2 else f">{width}" for i, width in enumerate(widths)]
    lines = ["  ".join(map(format, row, aligned)) for row in cells]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def render_markdown(scores: dict[str, dict[str, Any]]) -> str:
    """Write the table for the README; the best value of each score is bold."""
    head, *rows = table_cells(scores)
    best = list(best_models(scores).values())
    lines = [f"| {' | '.join(head)} |", "|---|---" + "|---:" * len(SCORES) + "|"]
    for name, start, *values in rows:
        marked = [f"**{value}**" if name in models else value for value, models in zip(values, best, strict=True)]
        lines.append("| " + " | ".join([f"`{name}`" if name != "ensemble" else name, start, *marked]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the scores of all models and of their ensemble.")
    parser.add_argument("metrics", nargs="?", type=Path, default=Path("metrics"))
    parser.add_argument("--markdown", action="store_true", help="as a table for the README")
    arguments = parser.parse_args()
    scores = read_scores(arguments.metrics)
    if arguments.markdown:
        print(render_markdown(scores))
    else:
        print(f"{render_text(scores)}\n\nThe whole report: {arguments.metrics / 'report.html'}")


if __name__ == "__main__":
    exit_cleanly(main)
