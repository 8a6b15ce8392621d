"""Summarise a sweep: validation scores of each model by the varying parameters, as a table and a figure.

    python -m stages.experiments.sweep [FILE] [--param models.cnn.lr] [--score accuracy] [--out FOLDER]

FILE is the output of `dvc exp show --json` (`-`: standard input); without FILE, that command is run. Runs that differ
only in the seed form one row, with mean and standard deviation. Rows are ranked by validation score. Test scores are
not shown, because they must not be used to choose. Writes sweep.csv and sweep.png.
"""

import argparse
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd

from stages.experiments.runs import COLUMNS, read_runs
from stages.experiments.settings_table import list_settings, tabulate, write_value
from stages.experiments.sweep_figure import draw_sweep
from stages.experiments.text_table import align
from stages.runtime.errors import UserError
from stages.runtime.files import write_text
from stages.runtime.process import exit_cleanly

SCORES = ("accuracy", "loss", "f1_macro", "top5", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="output of `dvc exp show --json`; -: standard input")
    parser.add_argument("--param", help="compare by this parameter only, with all others as in the first commit")
    parser.add_argument("--score", choices=SCORES, default="accuracy", help="by default %(default)s")
    parser.add_argument("--out", type=Path, default="metrics/sweep", help="folder to write, by default %(default)s")
    arguments = parser.parse_args()
    runs, unfinished = read_runs(read_shown(arguments.file), arguments.score)
    if unfinished:
        print(f"left out, because they are unfinished or lack this score: {', '.join(unfinished)}\n")
    if arguments.param and arguments.param not in runs.columns.drop(COLUMNS):
        raise UserError(
            f"--param: expected a parameter that these runs have, such as models.cnn.lr, found {arguments.param!r}; "
            "correct the name"
        )
    models = runs["model"].unique()
    tables = {model: tabulate(runs, model, arguments.score, arguments.param) for model in models}
    tables = {model: table for model, table in tables.items() if table["n_seeds"].sum() > 1}
    if not tables:
        n_runs = runs["run"].nunique()
        raise UserError(
            f"expected finished runs that differ in a parameter, found {n_runs} runs without a difference; run a sweep "
            "first, for example `dvc exp run --queue -S 'seed=1,2,3'` and `dvc queue start`"
        )
    print("\n\n".join(describe(model, table, arguments.score) for model, table in tables.items()))
    path, figure = arguments.out / "sweep.csv", arguments.out / "sweep.png"
    write_table(path, tables)
    draw_sweep(figure, tables, arguments.score)
    print(f"\nsee {figure}, {path}")


def read_shown(file: str | None) -> list[dict]:
    """Read the output of `dvc exp show --json` from a file, from standard input, or from the command itself.

    Raises:
        UserError: the file is missing or has other content, or the command failed.
    """
    if file is None:
        shown = subprocess.run(["dvc", "exp", "show", "--json"], capture_output=True, text=True, check=False)
        if shown.returncode:
            raise UserError(f"dvc exp show --json: {shown.stderr.strip()}")
        text = shown.stdout
    elif file != "-" and not Path(file).is_file():
        raise UserError(f"{file}: no such file; make it with `dvc exp show --json > {file}`")
    else:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    with suppress(ValueError, TypeError):
        shown = json.loads(text)
        if all("rev" in commit for commit in shown):
            return shown
    raise UserError(f"{file}: expected the output of `dvc exp show --json`, found something else; make the file again")


def describe(model: str, table: pd.DataFrame, score: str) -> str:
    """Return the table of a model as text; a star marks rows that are worse than the best by more than noise."""
    means = table["val_mean"].to_numpy()
    behind = [
        f"{mean - means[0]:+.4f}{'*' if star else ' '}" for mean, star in zip(means, table["behind"], strict=True)
    ]
    settings = list_settings(table).map(write_value)
    columns = {
        **{key.removeprefix("models."): values for key, values in settings.items()},
        "seeds": table["n_seeds"].map(str),
        f"val {score}": table["val_mean"].map("{:.4f}".format),
        "±": table["val_deviation"].map("{:.4f}".format).replace("nan", ""),
        "from best ": ["", *behind[1:]],
    }
    lines = align(columns)
    if len(table) > 1 and table["n_seeds"].max() > 1:
        lines += [
            "* behind the best by more than noise (Tukey's range: of sweeps without a difference, 1 in 20 has any *)"
        ]
    elif len(table) > 1:
        lines += ["one seed each: only more seeds tell which differences are more than noise"]
    return "\n  ".join([model, *lines])


def write_table(path: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write a CSV file with a row for each model and setting, in the order of the tables."""
    columns = ["model", "settings", "n_seeds", "val_mean", "val_deviation", "behind", "runs"]
    rows = []
    for model, table in tables.items():
        records = list_settings(table).to_dict("records")
        settings = ["; ".join(f"{key}={value}" for key, value in record.items()) for record in records]
        rows.append(table.assign(model=model, settings=settings))
    write_text(path, pd.concat(rows).to_csv(columns=columns, index=False, float_format="%.6f", lineterminator="\n"))


if __name__ == "__main__":
    exit_cleanly(main)
