"""A sweep as a picture: lines where one parameter varies, parallel coordinates for several, dots for seeds alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.experiments.settings_table import SMALLER_IS_BETTER, Row, deviation_of
from stages.runtime.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = ("lr", "backbone_lr", "weight_decay", "epsilon")  # of which one compares factors, not differences
GREY = "#7d7d7d"


def draw_sweep(path: Path, tables: dict[str, list[Row]], score: str) -> None:
    """Draw all tables: a panel for each parameter that alone varies for some models, and one for each other model.

    Args:
        tables: {model: its rows}, the best one first.
    """
    from matplotlib.figure import Figure

    lines: dict[str, dict[str, list[Row]]] = {}  # {the parameter's last name: {model: rows}}
    parallel = {}
    for model, rows in tables.items():
        keys = list(rows[0].settings)
        if len(keys) > 1:
            parallel[model] = rows
        else:
            lines.setdefault(keys[0].rpartition(".")[2] if keys else "", {})[model] = rows
    n_panels = len(lines) + len(parallel)
    figure = Figure(figsize=(7.5, 4.2 * n_panels), dpi=100, layout="constrained")
    panels = iter(figure.subplots(n_panels, 1, squeeze=False)[:, 0])
    for name, models in lines.items():
        draw_lines(next(panels), name, models, score) if name else draw_seeds(next(panels), models, score)
    for model, rows in parallel.items():
        draw_parallel(next(panels), model, rows, score)
    with written_whole(path) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def draw_lines(axes: Axes, name: str, models: dict[str, list[Row]], score: str) -> None:
    """Draw a line a model: the mean of the seeds with their standard deviation, and each seed as a dot."""
    values = [next(iter(row.settings.values())) for rows in models.values() for row in rows]
    places = _places(values)
    for model, rows in models.items():
        rows = sorted(rows, key=lambda row: places[_text(next(iter(row.settings.values())))])
        across = [places[_text(next(iter(row.settings.values())))] for row in rows]
        spread = [0 if math.isnan(deviation := deviation_of(row.val)) else deviation for row in rows]
        colour = axes.errorbar(across, [row.mean for row in rows], spread, marker="o", capsize=3, label=model)[0]
        for x, row in zip(across, rows, strict=True):
            if len(row.val) > 1:
                axes.plot([x] * len(row.val), row.val, ".", color=colour.get_color(), alpha=0.5)
    if name in RATES and min(places.values()) > 0:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(list(places.values()), list(places))
    _finish(axes, f"val {score}", name)
    axes.legend(frameon=False)


def draw_seeds(axes: Axes, models: dict[str, list[Row]], score: str) -> None:
    """Draw each model's seeds as dots, with their mean and standard deviation."""
    for place, (row,) in enumerate(models.values()):
        axes.plot([place] * len(row.val), row.val, ".", color=GREY)
        axes.errorbar(place, row.mean, deviation_of(row.val), marker="o", capsize=4)
    axes.set_xticks(range(len(models)), list(models))
    axes.margins(x=0.15)
    _finish(axes, f"val {score}", "mean and standard deviation of the seeds")


def draw_parallel(axes: Axes, model: str, rows: list[Row], score: str) -> None:
    """Draw each row as a line across one axis a parameter, coloured by its score; the best one on top, and thick."""
    from matplotlib import colormaps

    keys = list(rows[0].settings)
    scales = [_places([row.settings[key] for row in rows]) for key in keys]
    scales = [
        {text: math.log(place) for text, place in scale.items()}
        if key.rpartition(".")[2] in RATES and min(scale.values()) > 0
        else scale
        for key, scale in zip(keys, scales, strict=True)
    ]
    means = [row.mean for row in rows]
    low, high = min(means), max(means)

    def height(scale: dict[str, float], text: str) -> float:
        lowest, highest = min(scale.values()), max(scale.values())
        return (scale[text] - lowest) / (highest - lowest) if highest > lowest else 0.5

    def share(mean: float) -> float:
        return (mean - low) / (high - low) if high > low else 0.5

    for row in reversed(rows):
        heights = [height(scale, _text(row.settings[key])) for key, scale in zip(keys, scales, strict=True)]
        goodness = 1 - share(row.mean) if score in SMALLER_IS_BETTER else share(row.mean)
        colour = colormaps["viridis_r"](goodness)
        axes.plot([*heights, share(row.mean)], color=colour, linewidth=3 if row is rows[0] else 1.2)
    for place, scale in enumerate([*scales, {f"{low:.4f}": low, f"{high:.4f}": high}]):
        axes.axvline(place, color=GREY, linewidth=0.8)
        for text in scale:
            axes.text(place, height(scale, text), f" {text}", fontsize=8, va="center")
    axes.set_xticks(range(len(keys) + 1), [*(key.removeprefix(f"models.{model}.") for key in keys), f"val {score}"])
    axes.set_yticks([])
    axes.set_title(model)
    axes.spines[:].set_visible(False)


def _places(values: list[Any]) -> dict[str, float]:
    """Return where on an axis each value stands: numbers where they are, words one after the other."""
    if all(_is_number(value) for value in values):
        return {_text(value): float(value) for value in sorted(values)}
    return {text: float(place) for place, text in enumerate(sorted({_text(value) for value in values}))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _finish(axes: Axes, y_label: str, x_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
