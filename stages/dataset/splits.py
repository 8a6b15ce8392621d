"""Distribute the images of each class over the splits, and keep copies together."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from stages.pixels.packed_splits import SPLITS
from stages.runtime.errors import UserError

N_ORDERS = 20  # largest number of orders in which groups with pictures of several classes are placed


def stratify(
    classes: Sequence[str],
    groups: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    earlier: Mapping[str, str] | None = None,
) -> list[str]:
    """Split the images of each class by the fractions; all pictures of a group go to one split.

    In each split, the number of images of a class is within one image of the ideal, if the groups allow it. Groups with
    an earlier split stay there. If a class would then lack a split, its groups in train and val are placed again, but
    never its groups in test. A group without an earlier split is placed by the rank of its hash in the class, so if a
    class grows, only the few at the boundaries between splits move. Groups with several classes come first.

    Args:
        classes: class of each image.
        groups: group of each image, a hexadecimal hash.
        fractions: fractions of train, val and test; they sum to 1. A split with fraction 0 stays empty.
        earlier: {group: split} from an earlier version of the images.
    Returns:
        "train", "val" or "test" for each image. It depends on the hashes and the seed, not on order or file names.
    Raises:
        UserError: classes have fewer groups than splits to fill; one line per class.
    """
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for class_name, group in zip(classes, groups, strict=True):
        sizes[class_name][group] += 1
    n_splits = sum(fraction > 0 for fraction in fractions)
    stood = {group: SPLITS.index(split) for group, split in (earlier or {}).items()}
    shared = _place_shared(sizes, stood, fractions, seed)
    places: dict[str, int] = {}
    problems = []
    for name, its in sizes.items():
        kept = {group: stood[group] for group in its if group in stood} | _of(its, shared)
        of_test = {group: split for group, split in kept.items() if SPLITS[split] == "test"} | _of(its, shared)
        for staying in (kept, of_test):
            if _suffice(its, staying, n_splits):
                places |= staying | _place(its, staying, fractions, seed)
                break
        else:
            problems.append(_describe_lack(name, its, of_test, shared, n_splits))
    if problems:
        raise UserError(*problems)
    return [SPLITS[places[group]] for group in groups]


def _of(its: Mapping[str, int], places: Mapping[str, int]) -> dict[str, int]:
    return {group: split for group, split in places.items() if group in its}


def _suffice(its: Mapping[str, int], kept: Mapping[str, int], n_splits: int) -> bool:
    """Return whether a class has enough other groups for the splits without a kept group."""
    return len(its) - len(kept) >= n_splits - len(set(kept.values()))


def _describe_lack(
    name: str, its: Mapping[str, int], of_test: Mapping[str, int], shared: Mapping[str, int], n_splits: int
) -> str:
    n_images, n_shared = sum(its.values()), len(its.keys() & shared.keys())
    line = f"images: class {name}: {len(its)} different picture{'s' * (len(its) != 1)}"
    advice = "add images, or remove the class"
    if n_images > len(its):
        line += f" among its {n_images} (copies, near copies and the pictures of a group count once)"
        advice += ", or lower images_copy_bits if near copies are different pictures"
    if n_shared:
        line += f", of which {n_shared} are in groups with other classes"
    if n_stay := len(of_test.keys() - shared.keys()):
        line += f", of which {n_stay} stood in test earlier and stay there"
    return f"{line}, but {n_splits} splits need at least one each; {advice}"


def _place_shared(
    sizes: Mapping[str, Mapping[str, int]], stood: Mapping[str, int], fractions: Sequence[float], seed: int
) -> dict[str, int]:
    """Place the groups with pictures of several classes, the largest first, where their classes need most images.

    If a class is then left without a picture in some split, other orders are tried.
    """
    classes_of: dict[str, list[str]] = defaultdict(list)
    for name, its in sizes.items():
        for group in its:
            classes_of[group].append(name)
    shared = {group: names for group, names in classes_of.items() if len(names) > 1}
    n_images = {group: sum(sizes[name][group] for name in names) for group, names in shared.items()}
    splits = [split for split, fraction in enumerate(fractions) if fraction > 0]
    places: dict[str, int] = {}
    for kept in (stood, {group: split for group, split in stood.items() if SPLITS[split] == "test"}):
        for attempt in range(N_ORDERS):
            places = {group: kept[group] for group in shared if group in kept}
            needs = {name: apportion(sum(its.values()), fractions) for name, its in sizes.items()}
            n_left = {name: len(its) for name, its in sizes.items()}
            empty = {name: set(splits) for name in sizes}
            by_hash = {group: hashlib.sha256(f"{seed}:{attempt}:{group}".encode()).digest() for group in shared}
            order = {group: (group not in kept, attempt or -n_images[group], by_hash[group]) for group in shared}
            for group in sorted(shared, key=order.get):
                names = shared[group]
                urgent = {split for name in names if n_left[name] <= len(empty[name]) for split in empty[name]}
                choices = sorted(urgent) or splits
                split = places.setdefault(
                    group, max(choices, key=lambda split: sum(needs[name][split] for name in names))
                )
                for name in names:
                    needs[name][split] -= sizes[name][group]
                    n_left[name] -= 1
                    empty[name].discard(split)
            if all(n_left[name] >= len(empty[name]) for name in sizes):
                return places
    return places


def _place(sizes: Mapping[str, int], kept: Mapping[str, int], fractions: Sequence[float], seed: int) -> dict[str, int]:
    """Assign the other groups of a class to the splits that still need images."""
    needs = apportion(sum(sizes.values()), fractions)
    empty = {split for split, fraction in enumerate(fractions) if fraction > 0} - set(kept.values())
    for group, split in kept.items():
        needs[split] -= sizes[group]
    ranked = sorted(sizes.keys() - kept.keys(), key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    places: dict[str, int] = {}
    several = sorted((group for group in ranked if sizes[group] > 1), key=lambda group: -sizes[group])
    for n_placed, group in enumerate(several):
        # a group of many copies may overfill a split, so the last groups are reserved for empty splits
        choices = sorted(empty) if len(ranked) - n_placed <= len(empty) else range(len(needs))
        split = places[group] = max(choices, key=lambda choice: needs[choice])
        needs[split] -= sizes[group]
        empty.discard(split)
    single = [group for group in ranked if sizes[group] == 1]
    rows = _share(len(single), needs, empty)
    return places | dict(zip(single, rows, strict=True))


def _share(n: int, needs: Sequence[int], empty: set[int]) -> list[int]:
    """Return the splits of n single images in rank order: first those for train, then val, then test."""
    counts = [max(need, int(split in empty)) for split, need in enumerate(needs)]
    while sum(counts) > n:  # another split has more than its share
        counts[max(range(len(counts)), key=lambda split: counts[split] - (split in empty))] -= 1
    return [split for split, count in enumerate(counts) for _ in range(count)]


def apportion(n: int, fractions: Sequence[float]) -> list[int]:
    """Distribute n images by the fractions: whole numbers that sum to n.

    Each number is within one of the ideal, but a positive fraction gets at least 1 if n allows it.
    Source: the largest-remainder method (Hamilton).
    """
    shares = [int(n * fraction + 1e-9) for fraction in fractions]
    by_remainder = sorted(range(len(shares)), key=lambda index: shares[index] - n * fractions[index])
    for index in by_remainder[: n - sum(shares)]:
        shares[index] += 1
    for index, fraction in enumerate(fractions):
        if fraction > 0 and shares[index] == 0:
            shares[index] = 1
            shares[shares.index(max(shares))] -= 1
    return shares
