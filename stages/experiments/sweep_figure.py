"""The figure of a sweep: lines if one parameter varies, parallel coordinates for several, points for seeds only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.experiments.settings_table import SMALLER_IS_BETTER, list_settings, write_value
from stages.runtime.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = ("lr", "backbone_lr", "weight_decay", "epsilon")  # parameters on a logarithmic axis


def draw_sweep(path: Path, tables: dict[str, pd.DataFrame], score: str) -> None:
    """Draw all tables: a panel for each parameter that varies alone for some models, and one for each other model.

    Args:
        tables: {model: rows from `tabulate`}.
    """
    from matplotlib.figure import Figure

    from stages.reporting.fonts import complete_fonts

    lines: dict[str, dict[str, pd.DataFrame]] = {}  # {last part of the parameter's name: {model: rows}}
    parallel = {}
    for model, table in tables.items():
        if len(keys := list_settings(table).columns) > 1:
            parallel[model] = table
        else:
            lines.setdefault(keys[0].rpartition(".")[2] if len(keys) else "", {})[model] = table
    n_panels = len(lines) + len(parallel)
    figure = Figure(figsize=(7.5, 4.2 * n_panels), dpi=100, layout="constrained")
    panels = iter(figure.subplots(n_panels, 1, squeeze=False)[:, 0])
    for name, models in lines.items():
        draw_lines(next(panels), name, models, score)
    for model, table in parallel.items():
        draw_parallel(next(panels), model, table, score)
    with written_whole(path) as temporary, complete_fonts(figure):
        figure.savefig(temporary, metadata={"Software": None})


def draw_lines(axes: Axes, name: str, models: dict[str, pd.DataFrame], score: str) -> None:
    """Draw the mean over seeds with its standard deviation, and each seed as a dot.

    Args:
        name: the parameter, with a line per model; "": only the seed varies, with a point per model.
    """
    rows = pd.concat(
        table.assign(model=model, value=list_settings(table).iloc[:, 0] if name else model)
        for model, table in models.items()
    )
    rows = rows.assign(place=place_values(rows["value"])).sort_values("place")
    for model in models:
        line = rows[rows["model"] == model]
        bars = axes.errorbar(line["place"], line["val_mean"], line["val_deviation"].fillna(0), fmt="o-", capsize=3)
        bars.set_label(model)
        dots = line[line["n_seeds"] > 1].explode("val")
        axes.plot(dots["place"], dots["val"], ".", color=bars[0].get_color(), alpha=0.5)
    if name in RATES and rows["place"].min() > 0:
        axes.set_xscale("log")
        axes.minorticks_off()
    ticks = rows.drop_duplicates("place")
    axes.set_xticks(ticks["place"], ticks["value"].map(write_value))
    axes.set(xlabel=name or "mean and standard deviation of the seeds", ylabel=f"val {score}")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    if name:
        axes.legend(frameon=False)


def draw_parallel(axes: Axes, model: str, table: pd.DataFrame, score: str) -> None:
    """Draw each row as a line across one axis per parameter, coloured by score; the best row is thick and on top."""
    from matplotlib import colormaps

    values = list_settings(table).assign(score=table["val_mean"]).reset_index(drop=True)
    texts = values.map(write_value).assign(score=values["score"].map("{:.4f}".format))
    places = values.apply(place_values)
    rates = [key for key in places if key.rpartition(".")[2] in RATES and places[key].min() > 0]
    places[rates] = np.log(places[rates])
    heights = ((places - places.min()) / (places.max() - places.min())).fillna(0.5)  # for one score or no score
    goodness = 1 - heights["score"] if score in SMALLER_IS_BETTER else heights["score"]
    for row in reversed(values.index):
        colour = colormaps["viridis_r"](goodness[row])
        axes.plot(heights.loc[row].to_numpy(), color=colour, linewidth=1.2 if row else 3)
    for place, key in enumerate(values):
        axes.axvline(place, color="#7d7d7d", linewidth=0.8)
        named = values.index if key != "score" else values.index[[0, -1]]  # best and worst
        for height, text in {*zip(heights.loc[named, key], texts.loc[named, key], strict=True)}:
            axes.text(place, height, f" {text}", fontsize=8, va="center")
    labels = [key.removeprefix(f"models.{model}.") for key in values.columns[:-1]]
    axes.set_xticks(range(len(labels) + 1), [*labels, f"val {score}"])
    axes.set_yticks([])
    axes.set_title(model)
    axes.spines[:].set_visible(False)


def place_values(values: pd.Series) -> pd.Series:
    """Return the place of each value on an axis: numbers by value, words in sequence."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values.astype(float)
    return values.map(write_value).rank(method="dense")
