"""Classes and duplicate groups of images in, the split of each image out."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from stages.shared.errors import UserError
from stages.shared.images import SPLITS


def stratify(classes: Sequence[str], groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[str]:
    """Split the images of each class by the fractions; a group never stands in two splits.

    Args:
        classes: the class of each image.
        groups: the duplicate group of each image, a hexadecimal hash; images of a group are of one class.
        fractions: of train, val and test; they sum to 1. A split whose fraction is 0 stays empty.
    Returns:
        "train", "val" or "test" for each image. It depends on the hashes and the seed, not on order or file names.
    Raises:
        UserError: a class has fewer groups than there are splits to fill; all such classes are named.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (class_name, group) in enumerate(zip(classes, groups, strict=True)):
        members[class_name][group].append(index)
    n_splits = sum(fraction > 0 for fraction in fractions)
    if small := [f"{name} ({len(its_groups)})" for name, its_groups in members.items() if len(its_groups) < n_splits]:
        raise UserError(
            f"a split into {n_splits} needs {n_splits} different images a class; too few in: {', '.join(small)}"
        )
    splits = [""] * len(classes)
    for its_groups in members.values():
        needs = apportion(sum(map(len, its_groups.values())), fractions)
        empty = {index for index, fraction in enumerate(fractions) if fraction > 0}
        order = sorted(its_groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
        for n_left, group in zip(range(len(order), 0, -1), order, strict=True):
            # a group of many copies may fill a split twice over: the last groups are kept for splits still empty
            choices = sorted(empty) if n_left <= len(empty) else range(len(SPLITS))
            split = max(choices, key=lambda index: needs[index])
            empty.discard(split)
            needs[split] -= len(its_groups[group])
            for index in its_groups[group]:
                splits[index] = SPLITS[split]
    return splits


def apportion(n: int, fractions: Sequence[float]) -> list[int]:
    """Share n images out by the fractions: whole numbers that sum to n.

    Each is within one of the ideal, except that a positive fraction gets at least 1 where n allows it.
    Source: the largest-remainder method (Hamilton).
    """
    shares = [int(n * fraction + 1e-9) for fraction in fractions]
    by_remainder = sorted(range(len(shares)), key=lambda index: shares[index] - n * fractions[index])
    for index in by_remainder[: n - sum(shares)]:
        shares[index] += 1
    for index, fraction in enumerate(fractions):
        if fraction > 0 and shares[index] == 0:
            shares[index] += 1
            shares[shares.index(max(shares))] -= 1
    return shares
