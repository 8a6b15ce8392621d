"""What a sweep has shown: each model's validation score against the parameters that vary, as a table and a figure.

    python -m stages.experiments.sweep [FILE] [--param models.cnn.lr] [--score accuracy] [--out FOLDER]

FILE is the output of `dvc exp show --json` (`-`: standard input); without one, that command is run. Runs that differ in
the seed alone are one row, with the seeds' mean and standard deviation. Rows are ranked by the validation split; the
test split's score stands beside it, and nothing is chosen by it. Writes sweep.csv and sweep.png.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from stages.experiments.runs import Run, read_runs
from stages.experiments.settings_table import Row, compare_with_best, deviation_of, list_models, list_rows, spread
from stages.experiments.sweep_figure import draw_sweep
from stages.runtime.errors import UserError
from stages.runtime.files import write_csv
from stages.runtime.process import exit_cleanly

SCORES = ("accuracy", "loss", "f1_macro", "top5", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?")
    parser.add_argument("--param", help="the only one to compare by, all else as in the first commit")
    parser.add_argument("--score", choices=SCORES, default="accuracy")
    parser.add_argument("--out", type=Path, default="metrics/sweep")
    arguments = parser.parse_args()
    runs, unfinished = read_runs(read_shown(arguments.file), arguments.score)
    if unfinished:
        print(f"left out, since they have no scores of their own, or no such one: {', '.join(unfinished)}\n")
    if arguments.param and not any(arguments.param in run.params for run in runs):
        raise UserError(f"--param: expected a parameter such as models.cnn.lr, found {arguments.param!r}")
    tables = tabulate(runs, arguments.score, arguments.param)
    if not tables:
        raise UserError(f"{len(runs)} finished runs, and no parameter in which two differ; run a sweep first")
    print("\n\n".join(describe(model, rows, arguments.score) for model, rows in tables.items()))
    table, figure = arguments.out / "sweep.csv", arguments.out / "sweep.png"
    write_table(table, tables)
    draw_sweep(figure, tables, arguments.score)
    print(f"\nsee {figure}, {table}")


def read_shown(file: str | None) -> list[dict]:
    """Read what `dvc exp show --json` says, from a file, from standard input, or from the command itself.

    Raises:
        UserError: there is no such file, the command failed, or it is something else.
    """
    if file is None:
        shown = subprocess.run(["dvc", "exp", "show", "--json"], capture_output=True, text=True, check=False)
        if shown.returncode:
            raise UserError(f"dvc exp show --json: {shown.stderr.strip()}")
        text = shown.stdout
    elif file == "-":
        text = sys.stdin.read()
    elif Path(file).is_file():
        text = Path(file).read_text(encoding="utf-8")
    else:
        raise UserError(f"{file}: no such file; `dvc exp show --json > {file}` makes it")
    try:
        shown = json.loads(text)
        is_ours = all("rev" in commit for commit in shown)
    except (ValueError, TypeError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{file}: expected the output of `dvc exp show --json`, found something else")
    return shown


def tabulate(runs: list[Run], score: str, param: str | None) -> dict[str, list[Row]]:
    """Return the rows of each model whose scores vary: several settings, or several seeds."""
    tables = {model: list_rows(runs, model, score, param) for model in list_models(runs)}
    return {model: rows for model, rows in tables.items() if len(rows) > 1 or (rows and len(rows[0].val) > 1)}


def describe(model: str, rows: list[Row], score: str) -> str:
    """Return a model's table as text, with which rows are behind the best by more than noise."""
    keys = list(rows[0].settings)
    behind = ["", *(f"{each:+.4f}{'*' if exceeds else ' '}" for _, each, exceeds in compare_with_best(rows))]
    cells = [
        [*(key.removeprefix("models.") for key in keys), "seeds", f"val {score}", "±", "from best ", f"test {score}"]
    ]
    for row, difference in zip(rows, behind, strict=True):
        values = [f"{value:g}" if isinstance(value, float) else str(value) for value in row.settings.values()]
        mean, deviation, test = ("" if math.isnan(each) else f"{each:.4f}" for each in summarise(row))
        cells.append([*values, str(len(row.val)), mean, deviation, difference, test])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.rjust, line, widths)) for line in cells]
    return "\n  ".join([model, *lines, *judge(rows)])


def summarise(row: Row) -> tuple[float, float, float]:
    """Return the mean and the standard deviation on the validation split, and the mean on the test split."""
    return row.mean, deviation_of(row.val), fmean(row.test)


def judge(rows: list[Row]) -> list[str]:
    """Say by what measure a difference is more than noise."""
    deviation, freedom = spread(rows)
    if len(rows) == 1:
        return []
    if not freedom:
        return ["one seed each: only more seeds tell which differences are more than noise"]
    return [f"* more than the seeds' spread explains (standard deviation {deviation:.4f}; Student's t-test, 95 %)"]


def write_table(path: Path, tables: dict[str, list[Row]]) -> None:
    """Write a row for each model and setting, in the order of the tables."""
    lines = [["model", "settings", "n_seeds", "val_mean", "val_deviation", "test_mean", "test_deviation", "runs"]]
    for model, rows in tables.items():
        for row in rows:
            settings = "; ".join(f"{key}={value}" for key, value in row.settings.items())
            scores = (*summarise(row), deviation_of(row.test))
            texts = ["" if math.isnan(each) else f"{each:.6f}" for each in scores]
            lines.append([model, settings, len(row.val), *texts, " ".join(row.runs)])
    write_csv(path, lines)


if __name__ == "__main__":
    exit_cleanly(main)
