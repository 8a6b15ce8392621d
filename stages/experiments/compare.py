"""Compare two branches, commits or experiments picture by picture: what changed, and is it more than noise?

    python -m stages.experiments.compare BEFORE [AFTER] [--split val] [--over seed] [--md | --json] [--out FOLDER]

Without AFTER, BEFORE is compared with the workspace. Predictions are read from DVC's cache or a remote; nothing is
checked out or run. Pictures are matched by the hash of their file, also after pictures were added. A picture counts if
it is in this split of both revisions.

The output has for each model in both, and for the ensemble: accuracy, with the interval of the difference, McNemar's
test (mid-p) and Holm's correction over the rows; loss, with the interval of its difference. Copies of a picture count
together. The ensemble's answers on the validation split are cross-fitted. --over seed averages the differences over all
seeds with which both revisions were run.

Prints text, Markdown or JSON; writes compare.html, with the pictures whose answer changed, into FOLDER.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.experiments.comparison.changed_pictures import choose_size, describe_changed, show_picture
from stages.experiments.comparison.matching import Matching, match
from stages.experiments.comparison.revisions import WORKSPACE, Revision
from stages.experiments.comparison.seeds import pair_seeds
from stages.experiments.comparison.texts import render_markdown, render_page, render_text
from stages.experiments.runs import VOTE
from stages.runtime.files import write_text
from stages.runtime.process import exit_cleanly
from stages.scoring.changes import compare_change, count_changed, find_changed
from stages.scoring.comparison import correct_by_holm

N_SUREST = 10
N_SHOWN = 200  # keeps the page below a megabyte or two

Answers = dict[str, np.ndarray]  # {model: its probabilities, float (n_seeds, n_images, n_classes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="branch, commit or experiment")
    parser.add_argument("after", nargs="?", default=WORKSPACE, help="the same, by default the workspace")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="by default %(default)s")
    parser.add_argument("--over", choices=["seed"], help="average over the seeds that both were run with")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a comment on a pull request")
    form.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--out", type=Path, default="metrics/compare", help="folder to write, by default %(default)s")
    arguments = parser.parse_args()

    before, after = Revision(arguments.before), Revision(arguments.after)
    pairs = pair_seeds(before, after) if arguments.over else {}
    matching = match(before.manifest, after.manifest, arguments.split, (before.name, after.name))
    of_before, of_after = zip(*(pairs.values() or [(before, after)]), strict=True)
    compared, changed = compare_answers(
        matching,
        read_answers(of_before, arguments.split, matching.pictures["row_before"], matching.order),
        read_answers(of_after, arguments.split, matching.pictures["row_after"]),
        after.class_names,
    )
    names = {"before": before.name, "after": after.name}
    content = {"names": names, "split": arguments.split, "seeds": list(pairs), **compared}
    cards = describe_changed(changed, matching.pictures, after.class_names, names)
    content["surest"] = cards[:N_SUREST]
    size_px, folders = choose_size(matching.pictures), {"before": before.images, "after": after.images}
    shown = [
        {**card, "picture": show_picture(matching.pictures.iloc[row], folders, size_px)}
        for card, row in zip(cards[:N_SHOWN], changed["row"], strict=False)
    ]
    page = arguments.out / "compare.html"
    write_text(page, render_page(content, shown, size_px))
    if arguments.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        print(render_markdown(content) if arguments.md else f"{render_text(content)}\n\nsee {page}")


def read_answers(runs: Sequence[Revision], split: str, rows: pd.Series, order: np.ndarray | None = None) -> Answers:
    """Read the probabilities of each model for these rows of a split, with the classes in this order."""
    read = [run.read_probabilities(split) for run in runs]
    stacked = {name: np.stack([each[name][rows] for each in read]) for name in read[0]}
    return stacked if order is None else {name: each[:, :, order] for name, each in stacked.items()}


def compare_answers(
    matching: Matching, before: Answers, after: Answers, class_names: list[str]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare the models that are in both revisions; the ensemble comes last.

    Args:
        class_names: in the order of the probabilities.
    Returns:
        n_images, n_groups, n_elsewhere, n_relabelled, n_changed; rows, a dict per model: model, the keys of
        `compare_change`, holm_p; unchanged (models with the same predictions); only ({side: models}); classes, as
        from `count_changed`. And the changed answers of the ensemble, as from `find_changed`.
    """
    common = [name for name in after if name in before]
    unchanged = [name for name in common if np.array_equal(before[name], after[name])]
    labels, groups = matching.labels, matching.groups
    rows = [
        {"model": name, **compare_change(labels, before[name], after[name], groups)}
        for name in common
        if name not in unchanged
    ]
    corrected = correct_by_holm(np.array([row["mid_p"] for row in rows]))
    changed = find_changed(labels, before[VOTE].mean(axis=0), after[VOTE].mean(axis=0))
    content = {
        "n_images": len(labels),
        "n_groups": len(np.unique(groups)),
        "n_elsewhere": matching.n_elsewhere,
        "n_relabelled": matching.n_relabelled,
        "rows": [{**row, "holm_p": float(p)} for row, p in zip(rows, corrected, strict=True)],
        "unchanged": unchanged,
        "only": {
            "before": [name for name in before if name not in common],
            "after": [name for name in after if name not in common],
        },
        "n_changed": len(changed),
        "classes": count_changed(labels, changed, class_names),
    }
    return content, changed


if __name__ == "__main__":
    exit_cleanly(main)
