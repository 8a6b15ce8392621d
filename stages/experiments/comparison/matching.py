"""Find the pictures that two revisions share, by the hash of the file; rows, class numbers and names may have changed.

Only pictures in the same split of both count, because an answer for a training picture would prove nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.dataset.copies import join_groups
from stages.runtime.errors import UserError

N_NAMED = 5  # classes named in an error


@dataclass(frozen=True)
class Matching:
    """The pictures that both revisions have in a split, in the order of the second one."""

    pictures: pd.DataFrame  # columns of both manifests with _before and _after; sha256
    labels: np.ndarray  # int, (n_images,), class numbers of the second revision
    groups: np.ndarray  # int, (n_images,): copies in either revision share a number
    order: np.ndarray  # int, (n_classes,): for each class of the second revision, its number in the first
    n_elsewhere: int  # pictures in this split of one revision, and in another split of the other
    n_relabelled: int  # pictures of the split that are left out, because their class differs


def match(before: pd.DataFrame, after: pd.DataFrame, split: str, names: tuple[str, str]) -> Matching:
    """Match the pictures of two manifests. A file that is listed several times is matched as often as both list it.

    Args:
        before, after: as from `Revision.manifest`.
        names: names of the revisions, for errors.
    Raises:
        UserError: the classes differ, or the revisions share fewer than two pictures of the split.
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
    """Return {class of the first revision: same class of the second revision}; classes may have been renamed.

    Two classes are the same if they share most of their pictures, or have the same name.

    Args:
        both: pictures that are in both, of all splits.
    Raises:
        UserError: a class exists in only one of the revisions.
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
