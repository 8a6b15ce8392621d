"""Find labels that look wrong, with a network that never learnt from them; change nothing.

    python -m stages.audit PACKED MANIFEST FIXES ISSUES SUMMARY PICTURES [--params PATH]
    python -m stages.audit --accept N

ISSUES is a table of suspicious labels, most suspicious first: file, given class, suggested class, score (how likely the
label is wrong), split, and whether the class has enough pictures to be judged. PICTURES are for the report.

`--accept N` adds the first N judged rows to labels_fixed.csv, which `split` reads. Look at them first: in public data
sets, about half of the labels on such lists are wrong (Northcutt et al. 2021).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.dataset.label_fixes import add_fixes
from stages.labelling.backbones import describe_pictures, open_backbone
from stages.labelling.examination import MIN_PICTURES, Examination, examine
from stages.labelling.likeness import N_NEIGHBOURS, find_alike, find_neighbours, find_overlaps, normalise
from stages.networks.devices import choose_device
from stages.pixels.packed_splits import SPLITS, PackedSplit, open_splits, read_groups
from stages.runtime.errors import UserError
from stages.runtime.files import write_json, write_text, written_whole
from stages.runtime.process import run_stage
from stages.settings.reading import read_params
from stages.training.checkpoint_folder import FEATURES, find_folder

ISSUES, LABELS_FIXED = Path("metrics/label_issues.csv"), Path("labels_fixed.csv")
PATHS = ("packed", "manifest", "fixes", "issues", "summary", "pictures")
N_SHOWN = 18  # labels in the report
N_ALIKE = 12


def accept(issues: Path, n: int, labels_fixed: Path) -> None:
    """Add the first n judged issues to labels_fixed.csv.

    Raises:
        UserError: the list has fewer judged issues, or does not exist.
    """
    if not issues.is_file():
        raise UserError(f"{issues}: no such file; run `dvc repro audit`")
    table = pd.read_csv(issues, keep_default_na=False, dtype=str)
    judged = table[table["judged"] == "yes"]
    if not 1 <= n <= len(judged):
        raise UserError(f"--accept {n}: expected 1 or more, and no more than the {len(judged)} judged rows of {issues}")
    n_added = add_fixes(labels_fixed, judged[["file", "suggested"]].head(n).itertuples(index=False, name=None))
    print(f"{labels_fixed}: {n_added} rows added; `dvc repro` learns from them")


def read_rows(manifest: Path, fixes: Path) -> pd.DataFrame:
    """Return a row per packed picture, in the order train, val, test: file, split, decided, marked.

    `decided`: labels_fixed.csv names the picture. `marked`: it says `drop`, but the picture stays in the test split.
    """
    table, named = (pd.read_csv(path, keep_default_na=False, dtype=str) for path in (manifest, fixes))
    rows = pd.concat([table[table["split"] == split] for split in SPLITS], ignore_index=True)
    rows = rows.rename(columns={"path": "file"})[["file", "split"]]
    marked = named["file"][named["fixed"] == ""]
    return rows.assign(decided=rows["file"].isin(named["file"]), marked=rows["file"].isin(marked))


def list_issues(found: Examination, rows: pd.DataFrame, labels: np.ndarray, names: np.ndarray) -> pd.DataFrame:
    """List the labels that look wrong and that labels_fixed.csv does not name; the index has their row numbers."""
    listed = np.array([row for row in found.rank() if not rows["decided"].iat[row]], dtype=int)
    columns = {
        "file": rows["file"].to_numpy()[listed],
        "given": names[labels[listed]],
        "suggested": names[found.suggested[listed]],
        "score": found.wrong[listed].round(4),
        "split": rows["split"].to_numpy()[listed],
        "judged": np.where(found.judged[listed], "yes", "no"),
    }
    return pd.DataFrame(columns, index=listed)


def summarise(found: Examination, issues: pd.DataFrame, labels: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """Return the summary of the audit: numbers, and pairs of classes that overlap."""
    judged = issues[issues["judged"] == "yes"]
    overlaps = [
        pair | {key: str(names[pair[key]]) for key in ("a", "b")} for pair in find_overlaps(found.probabilities, labels)
    ]
    return {
        "n_pictures": len(labels),
        "accuracy": round(float((found.probabilities.argmax(axis=1) == labels).mean()), 6),
        "temperature": round(found.noise.temperature, 4),
        "noise_share": round(found.noise.share, 6),
        "n_judged": len(judged),
        "n_ranked_only": len(issues) - len(judged),
        "expected_precision": round(float(judged["score"].mean()), 4) if len(judged) else 0.0,
        "min_pictures": MIN_PICTURES,
        "overlaps": overlaps,
    }


def choose_neighbours(features: np.ndarray, found: Examination, labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the nearest neighbours of each shown picture in the suggested class, without labels that look wrong.

    Returns:
        int, shape (k, N_NEIGHBOURS): rows; -1 if there are fewer neighbours.
    """
    doubtful, chosen = np.isin(np.arange(len(labels)), found.rank()), np.full((len(shown), N_NEIGHBOURS), -1)
    for places, row in zip(chosen, shown.tolist(), strict=True):
        nearest = find_neighbours(features, row, np.flatnonzero((labels == found.suggested[row]) & ~doubtful))
        places[: len(nearest)] = nearest
    return chosen


def write_pictures(path: Path, splits: list[PackedSplit], shown: np.ndarray, alike: np.ndarray) -> None:
    """Write the pictures for the report, each once, and `shown` and `alike` as positions among them (-1: no picture).

    Args:
        shown, alike: int, shape (k, n): row numbers over all splits in order; -1: no picture.
    """
    rows, places = np.unique(np.concatenate([shown.ravel(), alike.ravel()]), return_inverse=True)
    places, rows = (places, rows) if -1 not in rows else (places - 1, rows[1:])
    first = np.cumsum([0, *map(len, splits)])
    which = np.searchsorted(first, rows, side="right") - 1
    images = [splits[split].images[row - first[split]] for split, row in zip(which, rows, strict=True)]
    empty = np.empty((0, *splits[0].images.shape[1:]), np.uint8)
    with written_whole(path) as temporary:
        np.savez(
            temporary,
            images=np.stack(images) if images else empty,
            shown=places[: shown.size].reshape(shown.shape),
            alike=places[shown.size :].reshape(alike.shape),
        )


def audit(arguments: argparse.Namespace) -> None:
    settings = read_params(arguments.params).audit
    class_names, splits = open_splits(arguments.packed, SPLITS)
    names, rows = np.array(class_names), read_rows(arguments.manifest, arguments.fixes)
    backbone, view = open_backbone(settings, class_names, splits[0].images.shape[1], choose_device())
    folder = find_folder(arguments.pictures) / FEATURES  # a training may have stored features there
    parts = [describe_pictures(backbone, split.images, view, folder, settings.architecture) for split in splits]
    features = np.concatenate(parts)
    kept = np.flatnonzero(~rows["marked"])
    labels = np.concatenate([split.labels for split in splits])[kept]
    groups = np.concatenate([read_groups(arguments.packed, split) for split in SPLITS])[kept]
    rows, features = rows.iloc[kept], features[kept]
    found, features = examine(features, labels, groups, len(names)), normalise(features)

    issues = list_issues(found, rows, labels, names)
    shown = issues.index.to_numpy()[:N_SHOWN]
    neighbours = choose_neighbours(features, found, labels, shown)
    mistaken = np.flatnonzero(found.probabilities.argmax(axis=1) != labels)
    alike = np.array(find_alike(features, labels, mistaken)[:N_ALIKE], dtype=int).reshape(-1, 2)
    pairs = [{"files": rows["file"].iloc[pair].tolist(), "classes": names[labels[pair]].tolist()} for pair in alike]
    write_text(arguments.issues, issues.to_csv(index=False, lineterminator="\n"))
    write_json(
        arguments.summary, summarise(found, issues, labels, names) | {"alike": pairs, "backbone": settings.weights}
    )
    pictures = np.where(neighbours < 0, -1, kept[neighbours]) if len(shown) else neighbours
    write_pictures(arguments.pictures, splits, np.column_stack([kept[shown], pictures]), kept[alike])
    print(f"audit: {len(issues)} of {len(labels)} labels look wrong, see {arguments.issues}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PATHS:
        parser.add_argument(name, type=Path, nargs="?")
    parser.add_argument(
        "--accept", type=int, metavar="N", help="add the first N judged labels to labels_fixed.csv, and do nothing else"
    )
    parser.add_argument("--params", type=Path, default="params.yaml")
    arguments = parser.parse_args()
    if arguments.accept is not None:
        accept(ISSUES, arguments.accept, LABELS_FIXED)
    elif arguments.pictures is None:
        parser.error(f"expected {', '.join(PATHS)}, or --accept")
    else:
        audit(arguments)


if __name__ == "__main__":
    run_stage(main)
