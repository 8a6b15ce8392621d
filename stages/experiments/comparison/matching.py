"""Which pictures two revisions share: found by the hash of the file, whatever became of rows, class numbers and names.

Only a picture that is in the same split of both can be compared: what one of them was trained on says nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.dataset.copies import join_groups
from stages.runtime.errors import UserError

N_NAMED = 5  # classes in an error


@dataclass(frozen=True)
class Matching:
    """The pictures that both revisions have in a split, in the order of the second one."""

    pictures: pd.DataFrame  # the columns of the manifest, those of either with _before and _after; sha256
    labels: np.ndarray  # int, (n_images,), as the second revision numbers its classes
    groups: np.ndarray  # int, (n_images,): copies of each other in either revision have one number
    order: np.ndarray  # int, (n_classes,): the first revision's number of each class of the second
    n_elsewhere: int  # pictures that one of them alone has in this split, and the other in another one
    n_relabelled: int  # pictures of the split that are left out, since their classes differ


def match(before: pd.DataFrame, after: pd.DataFrame, split: str, names: tuple[str, str]) -> Matching:
    """Match the pictures of two manifests. A file that is listed several times is matched as often as both list it.

    Args:
        before, after: as `Revision.manifest` has them.
        names: of the revisions, for errors.
    Raises:
        UserError: their classes differ, or they share fewer than two pictures of the split.
    """
    both = before.merge(after, on=["sha256", "nth"], suffixes=("_before", "_after"))
    class_of = map_classes(before, after, both, names)
    is_here = pd.DataFrame({side: both[f"split_{side}"] == split for side in ("before", "after")})
    here = both[is_here.all(axis=1)].sort_values("row_after")
    is_same = here["class_before"].map(class_of) == here["class_after"]
    pictures = here[is_same].reset_index(drop=True)
    earlier = [f"before {group}" for group in pictures["group_before"]]
    groups = np.unique(join_groups(pictures["group_after"].tolist(), earlier), return_inverse=True)[1]
    if len(np.unique(groups)) < 2:
        found = " and ".join(
            f"{(each['split'] == split).sum()} of {name}" for each, name in zip((before, after), names, strict=True)
        )
        raise UserError(
            f"{split}: expected at least two different pictures that are in this split of both revisions, found "
            f"{len(pictures)} among {found}; {len(both)} files are in both revisions, in any split; compare revisions "
            "of the same images"
        )
    numbers = dict(zip(before["class"], before["label"], strict=True))
    in_order = after.drop_duplicates("label").sort_values("label")["class"]
    name_before = {name: each for each, name in class_of.items()}
    return Matching(
        pictures,
        labels=pictures["label_after"].to_numpy(),
        groups=groups,
        order=np.array([numbers[name_before[name]] for name in in_order]),
        n_elsewhere=int((is_here.sum(axis=1) == 1).sum()),
        n_relabelled=int((~is_same).sum()),
    )


def map_classes(
    before: pd.DataFrame, after: pd.DataFrame, both: pd.DataFrame, names: tuple[str, str]
) -> dict[str, str]:
    """Return {class of the first revision: the same class of the second}, which may have been renamed.

    A class is the same if it has most of its pictures in common with the other, or else its name.

    Args:
        both: the pictures of both, of all splits.
    Raises:
        UserError: classes of one are not among those of the other.
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = np.unique(before["class"].to_numpy(str)), np.unique(after["class"].to_numpy(str))
    counts = pd.crosstab(both["class_before"], both["class_after"]).reindex(index=ours, columns=theirs, fill_value=0)
    counts = counts.to_numpy()
    is_named = ours[:, None] == theirs
    rows, columns = linear_sum_assignment(counts + 0.5 * is_named, maximize=True)
    found = counts[rows, columns]
    is_most = (2 * found > counts.sum(axis=1)[rows]) & (2 * found > counts.sum(axis=0)[columns])
    is_sure = is_most | is_named[rows, columns]
    if not is_sure.all() or len(ours) != len(theirs):
        lone = np.setdiff1d(ours, ours[rows[is_sure]]), np.setdiff1d(theirs, theirs[columns[is_sure]])
        raise UserError(
            "expected the same classes in both revisions, found "
            + ", ".join(f"{_name(each)} only in {name}" for each, name in zip(lone, names, strict=True) if len(each))
            + "; compare revisions with the same classes"
        )
    return dict(zip(ours[rows].tolist(), theirs[columns].tolist(), strict=True))


def _name(classes: np.ndarray) -> str:
    more = f" and {len(classes) - N_NAMED} more" if len(classes) > N_NAMED else ""
    return ", ".join(classes[:N_NAMED]) + more
