"""Which pictures two revisions share: by file, in the same split of both, and in the same class, even if renamed."""

import numpy as np
import pandas as pd
import pytest

from stages.experiments.comparison.matching import Matching, match
from stages.runtime.errors import UserError


def manifest(*rows: str) -> pd.DataFrame:
    """Return a manifest of rows like "val rose a": split, class, hash of the file; classes are numbered in order.

    The group has the name of the file, or of the text after a slash: "val rose a/g" belongs to group g.
    """
    listed = [row.split() for row in rows]
    classes = list(dict.fromkeys(name for _, name, _ in listed))
    table = pd.DataFrame(
        {
            "path": [f"{name}/{i}.jpg" for i, (_, name, _) in enumerate(listed)],
            "label": [classes.index(name) for _, name, _ in listed],
            "class": [name for _, name, _ in listed],
            "split": [split for split, _, _ in listed],
            "sha256": [file.split("/")[0] for _, _, file in listed],
            "group": [file.split("/")[-1] for _, _, file in listed],
        }
    )
    return table.assign(row=table.groupby("split").cumcount(), nth=table.groupby("sha256").cumcount())


def match_val(before: pd.DataFrame, after: pd.DataFrame) -> Matching:
    return match(before, after, "val", ("main", "warmer"))


def rows_of(found: Matching) -> list[list[int]]:
    return found.pictures[["row_before", "row_after"]].to_numpy().tolist()


def test_pictures_are_found_by_their_file_wherever_it_is_listed_and_only_in_the_same_split_of_both():
    before = manifest("train rose t", "val rose a", "val rose b", "val rose moved", "val iris c", "test iris d")
    after = manifest("val iris c", "val rose new", "val rose b", "val rose a", "train rose moved", "train rose t")
    found = match_val(before, after)
    assert rows_of(found) == [[3, 0], [1, 2], [0, 3]]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.order.tolist() == [1, 0]  # rose was the first class, and is the second
    assert (found.n_elsewhere, found.n_relabelled) == (1, 0)


def test_a_file_that_is_there_twice_is_matched_as_often_as_both_have_it():
    once, twice = manifest("val rose a", "val iris b"), manifest("val rose a", "val rose a", "val iris b")
    assert rows_of(match_val(twice, twice)) == [[0, 0], [1, 1], [2, 2]]
    assert rows_of(match_val(once, twice)) == [[0, 0], [1, 2]]
    assert len(np.unique(match_val(twice, twice).groups)) == 2


def test_a_class_of_another_name_is_the_same_if_its_pictures_are_also_if_two_names_were_swapped():
    before = manifest("train rose a", "val rose b", "train iris c", "val iris d", "train tulip e", "val tulip f")
    renamed = manifest("train lily c", "val lily d", "train rose a", "val rose b", "train tulip e", "val tulip f")
    swapped = manifest("train iris a", "val iris b", "train rose c", "val rose d", "train tulip e", "val tulip f")
    assert match_val(before, renamed).order.tolist() == [1, 0, 2]
    assert match_val(before, swapped).order.tolist() == [0, 1, 2]
    assert match_val(before, swapped).n_relabelled == 0


def test_a_picture_that_was_given_another_label_is_left_out():
    before = manifest("val rose a", "val rose b", "val iris c")
    after = manifest("val rose a", "val iris b", "val iris c")
    found = match_val(before, after)
    assert rows_of(found) == [[0, 0], [2, 2]]
    assert found.n_relabelled == 1


def test_copies_in_either_revision_are_one_group():
    before = manifest("val rose a/g", "val rose b/g", "val rose c", "val iris d")
    after = manifest("val rose a", "val rose b/h", "val rose c/h", "val iris d")
    groups = match_val(before, after).groups
    assert groups[0] == groups[1] == groups[2] != groups[3]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (("val rose x", "val iris y"), "val: "),
        (("train rose a", "val iris y"), "val: "),
        (("val rose a", "val iris b", "val tulip c"), "tulip only in warmer"),
        (("val rose a", "val rose b"), "iris only in main"),
        (("val rose a", "val tulip x"), "iris only in main, tulip only in warmer"),
    ],
)
def test_other_pictures_and_other_classes_cannot_be_compared(after: tuple[str, ...], expected: str):
    with pytest.raises(UserError, match=expected) as error:
        match_val(manifest("val rose a", "val iris b"), manifest(*after))
    assert len(error.value.args) == 1
