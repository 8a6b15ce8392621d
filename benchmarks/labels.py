"""Measure the label audit on labels that were changed on purpose: how many of the listed labels are wrong.

    python -m benchmarks.labels [--seeds 1 2 3] [--shares 0.03 0.1]

Run it after `dvc repro audit`: it uses the packed pictures and the network of `audit` in params.yaml. For each seed, a
share of the labels is changed, to any other class or to the most similar class (by the mean features of the classes).
Each line has

- precision and recall of the first n labels (n: the number of changed labels), ranked by the audit, and at random;
- the length of the audit's list, its expected precision, and its real precision;
- the same for cleanlab's filter `low_self_confidence` on the same probabilities, if cleanlab is installed
  (`pip install cleanlab`; the project does not need it: docs/labels.md).

A label that was wrong before the change counts as a false alarm. Settings were chosen with seed 0. Writes
benchmarks/results/CHIP-labels.json.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import name_chip, name_results
from stages.labelling.backbones import describe_pictures, open_backbone
from stages.labelling.examination import Examination, examine
from stages.networks.devices import choose_device
from stages.pixels.packed_splits import SPLITS, open_splits, read_groups
from stages.runtime.files import write_json
from stages.runtime.process import exit_cleanly
from stages.settings.reading import read_params
from stages.training.checkpoint_folder import FEATURES, find_folder

KINDS = ("any class", "the most similar class")


def change_labels(
    labels: np.ndarray, share: float, similar: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Change a share of the labels; return the labels and the changed rows.

    Args:
        labels: int, shape (n_images,).
        similar: int, shape (n_classes,): the new class for each class; None: any other class.
    """
    random, changed = np.random.default_rng(seed), labels.copy()
    rows = random.choice(len(labels), round(share * len(labels)), replace=False)
    n_classes = labels.max() + 1
    others = (labels[rows] + random.integers(1, n_classes, len(rows))) % n_classes
    changed[rows] = others if similar is None else similar[labels[rows]]
    return changed, rows


def find_similar(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for each class the class with the most similar mean features, int, shape (n_classes,)."""
    standardised = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    means = np.stack([standardised[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    likeness = means @ means.T
    np.fill_diagonal(likeness, -1)
    return likeness.argmax(axis=1)


def score(found: Examination, labels: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, float]:
    """Compare the results with the changed rows.

    Args:
        labels: labels before the change.
    """
    is_wrong, listed = np.isin(np.arange(len(labels)), rows), found.rank()
    first = np.argsort(-found.wrong, kind="stable")[: len(rows)]
    shuffled = np.random.default_rng(seed).permutation(len(labels))[: len(rows)]
    return {
        "n_changed": len(rows),
        "precision_at_n": float(is_wrong[first].mean()),
        "random_precision_at_n": float(is_wrong[shuffled].mean()),
        "right_class_suggested": float((found.suggested[rows] == labels[rows]).mean()),
        "n_listed": len(listed),
        "stated_precision": float(found.wrong[listed].mean()) if len(listed) else 0.0,
        "precision": float(is_wrong[listed].mean()) if len(listed) else 0.0,
        "recall": float(is_wrong[listed].sum() / len(rows)),
    }


def ask_cleanlab(found: Examination, changed: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Return the length and quality of cleanlab's list for the same probabilities."""
    from cleanlab.filter import find_label_issues

    ranked = {"filter_by": "low_self_confidence", "return_indices_ranked_by": "self_confidence"}
    listed = find_label_issues(changed, found.probabilities, **ranked)
    is_wrong = np.isin(listed, rows)
    return {
        "n_listed": len(listed),
        "precision": float(is_wrong.mean()),
        "recall": float(is_wrong.sum() / len(rows)),
        "precision_at_n": float(is_wrong[: len(rows)].mean()),
    }


def read_features() -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return features, labels and groups of all packed pictures, and facts about them.

    Raises:
        UserError: the pictures have not been packed.
    """
    settings = read_params().audit
    packed = Path(f"data/packed/{settings.image_size_px}")
    names, splits = open_splits(packed, SPLITS)
    backbone, view = open_backbone(settings, names, splits[0].images.shape[1], choose_device())
    began = time.perf_counter()
    folder = find_folder(packed) / FEATURES
    parts = [describe_pictures(backbone, split.images, view, folder, settings.architecture) for split in splits]
    features, groups = np.concatenate(parts), np.concatenate([read_groups(packed, split) for split in SPLITS])
    facts = {"backbone": settings.weights, "image_size_px": settings.image_size_px, "n_classes": len(names)}
    facts |= {"n_pictures": len(groups), "features_s": time.perf_counter() - began}
    return features, np.concatenate([split.labels for split in splits]), groups, facts


def render_line(result: dict[str, Any]) -> str:
    """Describe the result of one run in one line."""
    line = (
        f"{result['share']:.0%} to {result['to']}, seed {result['seed']}: first {result['n_changed']}: "
        f"{result['precision_at_n']:.3f} (random {result['random_precision_at_n']:.3f}); list of {result['n_listed']}: "
        f"says {result['stated_precision']:.3f}, is {result['precision']:.3f}, recall {result['recall']:.3f}"
    )
    other = result.get("cleanlab")
    return line + ("; cleanlab: list of {n_listed}: {precision:.3f}, {recall:.3f}".format(**other) if other else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.03, 0.1])
    arguments = parser.parse_args()
    features, labels, groups, facts = read_features()
    similar, results = find_similar(features, labels), []
    unchanged = examine(features, labels, groups, facts["n_classes"])
    facts |= {"accuracy": float((unchanged.probabilities.argmax(axis=1) == labels).mean())}
    facts |= {"unchanged_noise_share": unchanged.noise.share, "unchanged_n_listed": len(unchanged.rank())}
    for share in arguments.shares:
        for kind in KINDS:
            for seed in arguments.seeds:
                changed, rows = change_labels(labels, share, None if kind == KINDS[0] else similar, seed)
                began = time.perf_counter()
                found = examine(features, changed, groups, facts["n_classes"])
                result = {"share": share, "to": kind, "seed": seed, **score(found, labels, rows, seed)}
                result["examine_s"] = time.perf_counter() - began
                if importlib.util.find_spec("cleanlab"):
                    result["cleanlab"] = ask_cleanlab(found, changed, rows)
                results.append(result)
                print(render_line(result), flush=True)
    path = name_results("-labels")
    write_json(path, {"chip": name_chip(), **facts, "runs": results})
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    exit_cleanly(main)
