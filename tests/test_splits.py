"""The split: every image in one, no group in two, the shares as asked for, the same from the same seed."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest

from stages.dataset.splits import apportion, stratify
from stages.runtime.errors import UserError

FRACTIONS = (0.7, 0.15, 0.15)


def _group(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def _images(counts: dict[str, int]) -> tuple[list[str], list[str]]:
    """Return the class and the group of each image, every image a group of its own."""
    classes = [name for name, count in counts.items() for _ in range(count)]
    return classes, [_group(i) for i in range(len(classes))]


@pytest.mark.parametrize(
    ("n", "fractions", "expected"),
    [
        (100, FRACTIONS, [70, 15, 15]),
        (10, (0.5, 0.25, 0.25), [5, 3, 2]),  # 5, 2.5, 2.5: the one left over goes to the first
        (7, FRACTIONS, [5, 1, 1]),  # 4.9, 1.05, 1.05
        (9, FRACTIONS, [6, 2, 1]),  # 6.3, 1.35, 1.35: floors 6, 1, 1; the remainder 0.35 of val is the largest
        (3, FRACTIONS, [1, 1, 1]),  # 2.1, 0.45, 0.45: none may stay empty
        (10, (0.9, 0.1, 0), [9, 1, 0]),  # no share, no image
        (2, (0.9, 0.1, 0), [1, 1, 0]),
    ],
)
def test_images_are_apportioned_by_the_largest_remainder(n, fractions, expected):
    assert apportion(n, fractions) == expected


def test_apportioned_shares_sum_to_n_within_one_of_the_ideal():
    for n in range(4, 300):  # three images are too few: one each is more than one away from 2.1
        shares = apportion(n, FRACTIONS)
        assert sum(shares) == n
        assert all(abs(share - n * fraction) < 1 for share, fraction in zip(shares, FRACTIONS, strict=True))


def test_every_image_is_in_exactly_one_split():
    classes, groups = _images({"a": 20, "b": 7, "c": 3})
    splits = stratify(classes, groups, FRACTIONS, seed=1)
    assert len(splits) == 30
    assert set(splits) == {"train", "val", "test"}


def test_the_shares_of_each_class_are_the_apportioned_ones():
    counts = {"a": 100, "b": 20, "c": 7, "d": 3}
    classes, groups = _images(counts)
    for seed in range(5):
        counted = Counter(zip(classes, stratify(classes, groups, FRACTIONS, seed), strict=True))
        for name, count in counts.items():
            assert [counted[name, split] for split in ("train", "val", "test")] == apportion(count, FRACTIONS)


def test_a_group_is_never_in_two_splits_and_moves_no_share_by_more_than_its_size():
    classes = ["a"] * 40
    groups = [_group(i // 2) for i in range(40)]  # twenty pairs of copies
    for seed in range(10):
        splits = stratify(classes, groups, FRACTIONS, seed)
        split_of = defaultdict(set)
        for group, split in zip(groups, splits, strict=True):
            split_of[group].add(split)
        assert all(len(found) == 1 for found in split_of.values())
        counted = Counter(splits)  # ideal: 28, 6, 6, and all are even
        assert [counted[split] for split in ("train", "val", "test")] == [28, 6, 6]


def test_no_split_of_a_class_is_empty_when_one_picture_has_many_copies():
    groups = [_group(0)] * 5 + [_group(1), _group(2)]  # three different pictures, three splits to fill
    for seed in range(20):
        assert set(stratify(["a"] * 7, groups, FRACTIONS, seed)) == {"train", "val", "test"}


def test_copies_disturb_the_shares_by_no_more_than_one_image_while_single_pictures_can_make_up_for_them():
    rng = random.Random(0)
    for _ in range(200):
        sizes = [rng.choice([1, 1, 1, 1, 2, 3]) for _ in range(rng.randrange(8, 60))]
        if sizes.count(1) < len(sizes) / 2:
            continue
        groups = [_group(number) for number, size in enumerate(sizes) for _ in range(size)]
        counted = Counter(stratify(["a"] * len(groups), groups, FRACTIONS, rng.randrange(9)))
        for split, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
            ideal = len(groups) * fraction
            # a group of three in a split that is due one image cannot be cut
            assert abs(counted[split] - ideal) <= 1 + max(0, max(sizes) - ideal), (sizes, counted)


def _grow(classes, groups, splits, n_more):
    earlier = dict(zip(groups, splits, strict=True))
    more = [_group(1000 + number) for number in range(n_more)]
    return classes + ["a"] * n_more, groups + more, earlier


@pytest.mark.parametrize("n_more", [1, 2, 7, 40, 400])
def test_added_images_leave_the_earlier_ones_where_they_were(n_more):
    for seed in range(5):
        classes, groups = _images({"a": 40, "b": 12})
        splits = stratify(classes, groups, FRACTIONS, seed)
        classes, groups, earlier = _grow(classes, groups, splits, n_more)
        grown = stratify(classes, groups, FRACTIONS, seed, earlier)
        assert grown[:52] == splits
        counted = Counter(split for name, split in zip(classes, grown, strict=True) if name == "a")
        for split, fraction in zip(("train", "val", "test"), FRACTIONS, strict=True):
            assert abs(counted[split] - (40 + n_more) * fraction) <= 1


def test_without_a_memory_few_of_the_earlier_images_move():
    classes, groups = _images({"a": 1000})
    splits = stratify(classes, groups, FRACTIONS, seed=1)
    classes, groups, _ = _grow(classes, groups, splits, 100)
    moved = sum(old != new for old, new in zip(splits, stratify(classes, groups, FRACTIONS, seed=1), strict=False))
    assert moved <= 20  # of 1000; two boundaries, each within a few standard deviations of sqrt(100 x 0.7 x 0.3) = 5


def test_a_memory_that_would_leave_a_split_empty_is_given_up():
    classes, groups = _images({"a": 3})
    earlier = dict.fromkeys(groups, "train")
    assert set(stratify(classes, groups, FRACTIONS, 1, earlier)) == {"train", "val", "test"}


def test_the_split_of_an_image_does_not_depend_on_the_order():
    classes, groups = _images({"a": 20, "b": 9})
    expected = dict(zip(groups, stratify(classes, groups, FRACTIONS, seed=1), strict=True))
    order = list(range(29))
    random.Random(0).shuffle(order)
    shuffled = stratify([classes[i] for i in order], [groups[i] for i in order], FRACTIONS, seed=1)
    assert dict(zip([groups[i] for i in order], shuffled, strict=True)) == expected


def test_the_split_of_a_class_does_not_depend_on_the_other_classes():
    classes, groups = _images({"a": 20, "b": 9})
    assert stratify(classes[:20], groups[:20], FRACTIONS, 1) == stratify(classes, groups, FRACTIONS, 1)[:20]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    classes, groups = _images({"a": 50})
    first = stratify(classes, groups, FRACTIONS, seed=1)
    assert stratify(classes, groups, FRACTIONS, seed=1) == first
    assert stratify(classes, groups, FRACTIONS, seed=2) != first


def test_a_split_without_a_share_stays_empty():
    classes, groups = _images({"a": 10, "b": 2})
    splits = stratify(classes, groups, (0.9, 0.1, 0), seed=1)
    assert Counter(splits[:10]) == {"train": 9, "val": 1}
    assert Counter(splits[10:]) == {"train": 1, "val": 1}


def test_all_classes_that_are_too_small_are_named_with_their_sizes():
    classes, groups = _images({"iris": 2, "rose": 3, "daisy": 1})
    with pytest.raises(UserError) as caught:
        stratify(classes, groups, FRACTIONS, seed=1)
    assert [line.split(", but")[0] for line in caught.value.args] == [
        "images: class iris: 2 different pictures",
        "images: class daisy: 1 different picture",
    ]


def test_copies_do_not_make_a_class_large_enough():
    with pytest.raises(UserError, match="iris: 2 different pictures"):
        stratify(["iris"] * 4, [_group(0)] * 3 + [_group(1)], FRACTIONS, seed=1)
