"""How sure a model is beside how often it is right: the coordinates of small reliability diagrams."""

from typing import Any

SIDE = {"left": 26, "right": 156, "top": 6, "bottom": 136}  # of a diagram, in its 164 x 160 units


def plot_reliability(calibration: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn the bins into coordinates.

    Args:
        calibration: {model: temperature, ece, tempered_ece, bins, tempered_bins}, as comparison.json has it.
    Returns:
        The same, with `before` and `after` a temperature instead of the bins: lists of dicts with x, y, radius, words.
    Source: reliability diagrams, Niculescu-Mizil and Caruana 2005; here a dot's area is its share of the images.
    """
    return [
        {"name": name, **row, "before": _dots(row["bins"]), "after": _dots(row["tempered_bins"])}
        for name, row in calibration.items()
    ]


def _dots(bins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    side, total = SIDE["right"] - SIDE["left"], sum(each["n_images"] for each in bins)
    dots = []
    for each in bins:
        n, confidence, accuracy = each["n_images"], each["confidence"], each["accuracy"]
        dots.append(
            {
                "x": round(SIDE["left"] + side * confidence, 1),
                "y": round(SIDE["bottom"] - side * accuracy, 1),
                "radius": round(max(12 * (n / total) ** 0.5, 1.6), 1),
                "words": f"{n} image{'s' if n != 1 else ''}: sure to {confidence:.0%}, right on {accuracy:.0%}",
            }
        )
    return dots
