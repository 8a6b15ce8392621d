"""A sweep as a picture: lines where one parameter varies, parallel coordinates for several, points for seeds alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.experiments.settings_table import SMALLER_IS_BETTER, list_settings, write_value
from stages.runtime.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = ("lr", "backbone_lr", "weight_decay", "epsilon")  # of which one compares factors, not differences


def draw_sweep(path: Path, tables: dict[str, pd.DataFrame], score: str) -> None:
    """Draw all tables: a panel for each parameter that alone varies for some models, and one for each other model.

    Args:
        tables: {model: its rows, of `tabulate`}.
    """
    from matplotlib.figure import Figure

    from stages.reporting.fonts import complete_fonts

    lines: dict[str, dict[str, pd.DataFrame]] = {}  # {the parameter's last name: {model: rows}}
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
    """Draw the mean of the seeds with their standard deviation, and each seed as a dot.

    Args:
        name: of the parameter, a line a model; "": the seed alone varies, a point a model.
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
    """Draw each row as a line across one axis a parameter, coloured by its score; the best one on top, and thick."""
    from matplotlib import colormaps

    values = list_settings(table).assign(score=table["val_mean"]).reset_index(drop=True)
    texts = values.map(write_value).assign(score=values["score"].map("{:.4f}".format))
    places = values.apply(place_values)
    rates = [key for key in places if key.rpartition(".")[2] in RATES and places[key].min() > 0]
    places[rates] = np.log(places[rates])
    heights = ((places - places.min()) / (places.max() - places.min())).fillna(0.5)  # of one score, or none
    goodness = 1 - heights["score"] if score in SMALLER_IS_BETTER else heights["score"]
    for row in reversed(values.index):
        colour = colormaps["viridis_r"](goodness[row])
        axes.plot(heights.loc[row].to_numpy(), color=colour, linewidth=1.2 if row else 3)
    for place, key in enumerate(values):
        axes.axvline(place, color="#7d7d7d", linewidth=0.8)
        named = values.index if key != "score" else values.index[[0, -1]]  # the best and the worst
        for height, text in {*zip(heights.loc[named, key], texts.loc[named, key], strict=True)}:
            axes.text(place, height, f" {text}", fontsize=8, va="center")
    labels = [key.removeprefix(f"models.{model}.") for key in values.columns[:-1]]
    axes.set_xticks(range(len(labels) + 1), [*labels, f"val {score}"])
    axes.set_yticks([])
    axes.set_title(model)
    axes.spines[:].set_visible(False)


def place_values(values: pd.Series) -> pd.Series:
    """Return where on an axis each value stands: numbers where they are, words one after the other."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values.astype(float)
    return values.map(write_value).rank(method="dense")
