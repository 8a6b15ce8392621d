"""Splits: every image is in one, no group is in two, fractions are right, and the same seed gives the same split."""

import hashlib
import random
from collections import Counter

import pytest

from stages.dataset.splits import apportion, stratify
from stages.runtime.errors import UserError

SPLITS = ("train", "val", "test")
FRACTIONS = (0.7, 0.15, 0.15)


def _group(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


def _images(counts: dict[str, int], first: int = 0) -> tuple[list[str], list[str]]:
    """Return the class and the group of each image; each image is its own group."""
    classes = [name for name, count in counts.items() for _ in range(count)]
    return classes, [_group(i) for i in range(first, first + len(classes))]


@pytest.mark.parametrize(
    ("n", "fractions", "expected"),
    [
        (100, FRACTIONS, [70, 15, 15]),
        (10, (0.5, 0.25, 0.25), [5, 3, 2]),  # 5, 2.5, 2.5: the one left over goes to the first
        (9, FRACTIONS, [6, 2, 1]),  # 6.3, 1.35, 1.35: floors 6, 1, 1; the remainder 0.35 of val is the largest
        (3, FRACTIONS, [1, 1, 1]),  # 2.1, 0.45, 0.45: no split may stay empty
        (2, (0.9, 0.1, 0), [1, 1, 0]),  # no share, no image
    ],
)
def test_images_are_apportioned_by_the_largest_remainder(n, fractions, expected):
    assert apportion(n, fractions) == expected


def test_the_shares_of_each_class_are_the_apportioned_ones_whatever_the_others_are():
    counts = {"a": 100, "b": 20, "c": 7, "d": 3}
    classes, groups = _images(counts)
    for seed in range(5):
        splits = stratify(classes, groups, FRACTIONS, seed)
        counted = Counter(zip(classes, splits, strict=True))
        for name, count in counts.items():
            assert [counted[name, split] for split in SPLITS] == apportion(count, FRACTIONS)
        of_group = dict(zip(groups[:100], splits, strict=False))
        ranked = sorted(of_group, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
        assert [of_group[group] for group in ranked] == ["train"] * 70 + ["val"] * 15 + ["test"] * 15
        assert splits[:100] == stratify(classes[:100], groups[:100], FRACTIONS, seed)


def test_a_group_is_never_in_two_splits_and_single_pictures_make_up_for_it():
    rng = random.Random(0)
    for _ in range(100):
        sizes = [rng.choice([1, 1, 1, 1, 2, 3]) for _ in range(rng.randrange(8, 60))] + [1] * 8
        groups = [_group(number) for number, size in enumerate(sizes) for _ in range(size)]
        splits = stratify(["a"] * len(groups), groups, FRACTIONS, rng.randrange(9))
        assert len(set(zip(groups, splits, strict=True))) == len(sizes)
        for split, fraction in zip(SPLITS, FRACTIONS, strict=True):
            ideal = len(groups) * fraction  # a group of three cannot be cut for a split that needs one image
            assert abs(splits.count(split) - ideal) <= 1 + max(0, max(sizes) - ideal)


def test_groups_with_pictures_of_several_classes_leave_no_class_without_a_split():
    rng = random.Random(0)
    for seed in range(50):
        sites = [_group(seed * 100 + i) for i in range(12)]  # each has pictures of some of six classes
        groups = [site for site in sites for _ in range(rng.randrange(3, 20))]
        classes = [rng.choice("abcdef") for _ in groups]
        splits = stratify(classes, groups, FRACTIONS, seed)
        assert len(set(zip(groups, splits, strict=True))) == 12
        assert len(set(zip(classes, splits, strict=True))) == 6 * 3
        assert 0.4 < splits.count("train") / len(splits) < 0.9


def test_groups_with_pictures_of_several_classes_are_shared_out_by_the_fractions():
    for seed in range(10):
        splits = stratify(["a", "b"] * 120, [_group(i // 4) for i in range(240)], FRACTIONS, seed)
        assert [splits.count(split) for split in SPLITS] == pytest.approx([168, 36, 36], abs=4)  # one group is four
        splits = stratify(["a", "b"] * 50, [_group(max(0, i - 10) // 30) for i in range(100)], FRACTIONS, seed)
        assert sorted(splits.count(split) for split in SPLITS) == [30, 30, 40]  # three groups, three splits to fill
        splits = stratify(["a", "b"] * 3, [_group(i // 2) for i in range(6)], (0.9, 0.1, 0), seed)
        assert set(splits) == {"train", "val"}  # no share, no image


def test_the_largest_of_the_groups_with_pictures_of_several_classes_is_of_train():
    for seed in range(20):
        splits = stratify(["a", "b"] * 30, [_group(max(0, i // 6 - 7)) for i in range(60)], FRACTIONS, seed)
        assert splits[:48] == ["train"] * 48  # of 60 pictures; two groups of six are left
        assert {splits[48], splits[54]} == {"val", "test"}


def test_a_group_of_several_classes_that_stood_in_test_stays_there():
    classes, groups = _images({"a": 20, "b": 20})
    groups[20] = groups[0]
    for split in SPLITS:
        splits = stratify(classes, groups, FRACTIONS, 1, {groups[0]: split})
        assert splits[0] == splits[20] == split
    sites = [_group(i // 2) for i in range(6)]  # three, each with both classes: one for each split
    one_tested = [dict.fromkeys(sites, "val") | {site: "test"} for site in sites]
    for earlier in ({}, dict.fromkeys(sites, "train"), *one_tested):
        splits = stratify(["a", "b"] * 3, sites, FRACTIONS, 1, earlier)
        assert set(splits) == set(SPLITS)
        assert all(splits[sites.index(site)] == "test" for site in earlier if earlier[site] == "test")


def test_new_groups_of_several_classes_go_to_the_splits_that_the_earlier_ones_have_left():
    groups = [_group(i // 6) for i in range(60)]  # ten of six pictures: seven in train are its share
    for seed in range(5):
        splits = stratify(["a", "b"] * 30, groups, FRACTIONS, seed, dict.fromkeys(groups[:42], "train"))
        assert splits[:42] == ["train"] * 42
        assert set(splits[42:]) == {"val", "test"}


def test_the_largest_groups_choose_first_so_that_the_shares_can_be_met():
    groups = [_group(i) for i, size in enumerate((2, 4, 2)) for _ in range(size)]
    for seed in range(5):
        assert Counter(stratify(["a"] * 8, groups, (0.5, 0.25, 0.25), seed)) == {"train": 4, "val": 2, "test": 2}


def test_no_split_of_a_class_is_empty_when_one_picture_has_many_copies():
    for sizes in ((5, 1, 1), (5, 5, 2)):  # three different pictures, three splits to fill
        groups = [_group(number) for number, size in enumerate(sizes) for _ in range(size)]
        for seed in range(20):
            assert set(stratify(["a"] * len(groups), groups, FRACTIONS, seed)) == set(SPLITS)


@pytest.mark.parametrize("n_more", [7, 400])
def test_added_images_leave_the_earlier_ones_where_they_were(n_more):
    classes, groups = _images({"a": 40, "b": 12})
    splits = stratify(classes, groups, FRACTIONS, 1)
    more_classes, more_groups = _images({"a": n_more}, first=1000)
    earlier = dict(zip(groups, splits, strict=True))
    grown = stratify(classes + more_classes, groups + more_groups, FRACTIONS, 1, earlier)
    assert grown[:52] == splits
    of_a = grown[:40] + grown[52:]
    for split, fraction in zip(SPLITS, FRACTIONS, strict=True):
        assert abs(of_a.count(split) - len(of_a) * fraction) <= 1


def test_where_a_split_would_stay_empty_pictures_of_train_and_val_move_and_none_of_test():
    classes, groups = _images({"a": 3})
    assert set(stratify(classes, groups, FRACTIONS, 1, dict.fromkeys(groups, "train"))) == set(SPLITS)
    for tested in groups:
        earlier = dict.fromkeys(groups, "val") | {tested: "test"}
        splits = dict(zip(groups, stratify(classes, groups, FRACTIONS, 1, earlier), strict=True))
        assert set(splits.values()) == set(SPLITS)
        assert splits[tested] == "test"


def test_a_class_whose_pictures_of_test_leave_too_few_for_the_other_splits_is_refused():
    classes, groups = _images({"a": 3, "b": 9})
    with pytest.raises(UserError) as caught:
        stratify(classes, groups, FRACTIONS, 1, dict.fromkeys(groups[:2], "test"))
    assert len(caught.value.args) == 1
    assert "class a" in caught.value.args[0]


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    classes, groups = _images({"a": 20, "b": 9})
    splits = stratify(classes, groups, FRACTIONS, seed=1)
    order = random.Random(0).sample(range(29), 29)
    shuffled = stratify([classes[i] for i in order], [groups[i] for i in order], FRACTIONS, seed=1)
    assert shuffled == [splits[i] for i in order]
    assert stratify(classes, groups, FRACTIONS, seed=2) != splits
    of_two = ["a", "b"] * 20, [_group(i // 2) for i in range(40)]  # groups with both classes
    assert stratify(*of_two, FRACTIONS, seed=2) != stratify(*of_two, FRACTIONS, seed=1)


def test_all_classes_with_too_few_different_pictures_are_named():
    classes, groups = _images({"iris": 2, "rose": 3, "daisy": 1})
    with pytest.raises(UserError) as caught:
        stratify([*classes, "daisy", "daisy"], [*groups, groups[-1], groups[-1]], FRACTIONS, seed=1)
    assert [line.split(", but")[0].split(" among")[0] for line in caught.value.args] == [
        "images: class iris: 2 different pictures",
        "images: class daisy: 1 different picture",
    ]
    assert set(stratify(classes[:2], groups[:2], (0.9, 0.1, 0), seed=1)) == {"train", "val"}
