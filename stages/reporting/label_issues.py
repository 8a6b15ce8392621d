"""The results of the label audit for the page, and the effect of corrected labels on the test scores."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.reporting.pictures import encode_thumbnail


def read_audit(metrics: Path, data: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Read the results of the audit.

    Args:
        names: {class: readable name}.
    Returns:
        The summary, with the pictures of `alike`; and `issues`, the first labels that look wrong: a dict per label with
        `picture` and `neighbours`.
    """
    audit = json.loads((metrics / "audit.json").read_text(encoding="utf-8"))
    table = pd.read_csv(metrics / "label_issues.csv", keep_default_na=False, dtype=str)
    with np.load(data / "audit.npz") as arrays:
        thumbnails = [encode_thumbnail(image) for image in arrays["images"]]
        shown, alike = arrays["shown"].tolist(), arrays["alike"].tolist()
    issues = table.to_dict("records")
    for issue, (picture, *neighbours) in zip(issues, shown, strict=False):
        issue |= {key: names[issue[key]] for key in ("given", "suggested")}
        issue["picture"] = thumbnails[picture]
        issue["neighbours"] = [thumbnails[each] for each in neighbours if each >= 0]
    for pair, places in zip(audit["alike"], alike, strict=True):
        pair |= {
            "pictures": [thumbnails[place] for place in places],
            "classes": [names[each] for each in pair["classes"]],
        }
    for pair in audit["overlaps"]:
        pair |= {key: names[pair[key]] for key in ("a", "b")}
    return {**audit, "issues": issues[: len(shown)], "n_issues": len(issues)}


def score_fixes(
    data: Path, labels: np.ndarray, probabilities: dict[str, np.ndarray], classes: Sequence[str]
) -> dict[str, Any]:
    """Score the models on the test split with the original labels of the folder, and without the marked pictures.

    Args:
        labels: labels of the test pictures, int, shape (n_images,).
        probabilities: {model: (n_images, n_classes)}.
        classes: classes of the folder, in label order.
    Returns:
        A dict: n_relabelled, n_marked, and `accuracies`, {model: reported, as_given, without_marked}.
    """
    manifest, fixes = (
        pd.read_csv(data / f"{name}.csv", keep_default_na=False, dtype=str) for name in ("manifest", "fixes")
    )
    files = manifest["path"][manifest["split"] == "test"].to_numpy()
    of_test = fixes[fixes["split"] == "test"].set_index("file")
    numbers = {name: label for label, name in enumerate(classes)}
    marked, given = np.zeros(len(labels), dtype=bool), labels.copy()
    for place in np.flatnonzero(np.isin(files, of_test.index)):
        marked[place] = of_test.at[files[place], "fixed"] == ""
        given[place] = numbers[of_test.at[files[place], "given"]]

    def compare(each: np.ndarray) -> dict[str, float]:
        answers = each.argmax(axis=1)
        right = answers == labels
        return {
            "reported": float(right.mean()),
            "as_given": float((answers == given).mean()),
            "without_marked": float(right[~marked].mean()),
        }

    accuracies = {name: compare(each) for name, each in probabilities.items()}
    return {"n_relabelled": int((given != labels).sum()), "n_marked": int(marked.sum()), "accuracies": accuracies}
