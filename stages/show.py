"""Print the scores of all models and of the ensemble, as a table for the terminal or for the README.

The models are the members of the ensemble, in the order of the parameters; other files in the folder are ignored.
"""

import argparse
from pathlib import Path
from typing import Any

from stages.reporting.scores import best_models, list_scores, read_scores
from stages.reporting.sentences import start_in_words, vote_in_words
from stages.runtime.process import exit_cleanly


def table_cells(scores: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the cells of the table: a row of headings, then a row per model."""
    shown = list_scores(scores)
    return [["model", "starts from", *shown.values()]] + [
        [name, start_in_words(row), *(f"{row[key]:.4f}" for key in shown)] for name, row in scores.items()
    ]


def render_text(scores: dict[str, dict[str, Any]]) -> str:
    """Format the table for a terminal: words to the left, numbers to the right."""
    cells = table_cells(scores)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [f"<{width}" if i < 2 else f">{width}" for i, width in enumerate(widths)]
    lines = ["  ".join(map(format, row, aligned)) for row in cells]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def render_markdown(scores: dict[str, dict[str, Any]]) -> str:
    """Format the table for the README; the best value of each score is bold."""
    head, *rows = table_cells(scores)
    best = list(best_models(scores).values())
    lines = [f"| {' | '.join(head)} |", "|---|---" + "|---:" * len(best) + "|"]
    for name, start, *values in rows:
        marked = [f"**{value}**" if name in models else value for value, models in zip(values, best, strict=True)]
        lines.append("| " + " | ".join([f"`{name}`" if name != "ensemble" else name, start, *marked]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", nargs="?", type=Path, default=Path("metrics"), help="by default %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print Markdown for the README")
    arguments = parser.parse_args()
    scores = read_scores(arguments.metrics)
    table = (render_markdown if arguments.markdown else render_text)(scores)
    where = "" if arguments.markdown else f"Full report: {arguments.metrics / 'report.html'}"
    print("\n\n".join(filter(None, [table, vote_in_words(scores), where])))


if __name__ == "__main__":
    exit_cleanly(main)
