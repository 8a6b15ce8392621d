"""The table of scores: for the terminal, for the README, and for the report.

    python -m stages.reporting.score_table [--markdown] [METRICS]

The models are those that voted, in the order of the parameters; whatever else lies in the folder is not read.
Imports nothing heavy: the table is there in a tenth of a second.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from stages.reporting.sentences import start_in_words, vote_in_words
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly

SCORES = {"accuracy": "accuracy", "loss": "loss", "f1_macro": "macro F1", "top5": "top-5", "ece": "ECE"}
SMALLER_IS_BETTER = {"loss", "ece"}


def read_scores(metrics: Path) -> dict[str, dict[str, Any]]:
    """Read the scores of every member of the vote, and last those of the ensemble.

    Returns:
        {model: what its JSON file says}; the last key is "ensemble".
    Raises:
        UserError: a file is not there.
    """
    try:
        ensemble = json.loads((metrics / "ensemble.json").read_text(encoding="utf-8"))
        files = {name: metrics / "models" / f"{name}.json" for name in ensemble["weights"]}
        scores = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro ensemble`") from None
    return scores | {"ensemble": ensemble}


def list_scores(scores: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the headings of the scores that there are: top-5 says nothing of five classes."""
    return {key: heading for key, heading in SCORES.items() if key in scores["ensemble"]}


def best_models(scores: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return for each score the models that have its best value, as printed with four decimals."""
    best = {}
    for key in list_scores(scores):
        values = {name: round(row[key], 4) for name, row in scores.items()}
        target = (min if key in SMALLER_IS_BETTER else max)(values.values())
        best[key] = {name for name, value in values.items() if value == target}
    return best


def table_cells(scores: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the table as text: a row of headings, then a row a model."""
    shown = list_scores(scores)
    return [["model", "starts from", *shown.values()]] + [
        [name, start_in_words(row), *(f"{row[key]:.4f}" for key in shown)] for name, row in scores.items()
    ]


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
    lines = [f"| {' | '.join(head)} |", "|---|---" + "|---:" * len(best) + "|"]
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
    table = (render_markdown if arguments.markdown else render_text)(scores)
    where = "" if arguments.markdown else f"The whole report: {arguments.metrics / 'report.html'}"
    print("\n\n".join(filter(None, [table, vote_in_words(scores), where])))


if __name__ == "__main__":
    exit_cleanly(main)
