"""Every model against every other: which differences are more than noise, and how often two say the same."""

from typing import Any


def pair_up(pairs: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Turn the list of pairs into a square, in which a row is compared with a column.

    Args:
        pairs: as comparison.json lists them, each pair once.
        names: the rows and columns.
    Returns:
        {row: {column: points (of accuracy, row less column), low, high, p (Holm's), sign}}; sign is 1 or -1 where the
        row is better or worse by more than noise, else 0.
    """
    square: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for pair in pairs:
        points, low, high = (100 * pair[key] for key in ("accuracy_difference", "low", "high"))
        sign = 0 if pair["holm_p"] >= 0.05 else 1 if points > 0 else -1
        p = pair["holm_p"]
        square[pair["a"]][pair["b"]] = {"points": points, "low": low, "high": high, "p": p, "sign": sign}
        square[pair["b"]][pair["a"]] = {"points": -points, "low": -high, "high": -low, "p": p, "sign": -sign}
    return square
