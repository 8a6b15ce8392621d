"""The scores of all models: read, ranked and compared. Imports nothing heavy, so that the table appears at once."""

import json
from pathlib import Path
from typing import Any

from stages.runtime.errors import UserError

SCORES = {"accuracy": "accuracy", "loss": "loss", "f1_macro": "macro F1", "top5": "top-5", "ece": "ECE"}
SMALLER_IS_BETTER = {"loss", "ece"}


def read_scores(metrics: Path) -> dict[str, dict[str, Any]]:
    """Read the scores of every member, and last those of the ensemble.

    Returns:
        {model: content of its JSON file}; the last key is "ensemble".
    Raises:
        UserError: a file is missing.
    """
    try:
        ensemble = json.loads((metrics / "ensemble.json").read_text(encoding="utf-8"))
        files = {name: metrics / "models" / f"{name}.json" for name in ensemble["weights"]}
        scores = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run `dvc repro ensemble`") from None
    return scores | {"ensemble": ensemble}


def list_scores(scores: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the headings of the available scores; with five classes or fewer there is no top-5."""
    return {key: heading for key, heading in SCORES.items() if key in scores["ensemble"]}


def best_models(scores: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    """Return the best models for each score, by the value printed with four decimals."""
    best = {}
    for key in list_scores(scores):
        values = {name: round(row[key], 4) for name, row in scores.items()}
        target = (min if key in SMALLER_IS_BETTER else max)(values.values())
        best[key] = {name for name, value in values.items() if value == target}
    return best


def pair_up(pairs: list[dict[str, Any]], names: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Turn the list of pairs into a square table that compares each row with each column.

    Args:
        pairs: as in comparison.json, each pair once.
        names: names of the rows and columns.
    Returns:
        {row: {column: points (of accuracy, row less column), low, high, p (Holm's), sign}}; sign is 1 or -1 if the
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
