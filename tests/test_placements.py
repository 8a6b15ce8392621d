"""The memory of which split each picture stood in: what is written is read again, and asked in the right way."""

import pytest

from stages.dataset.ledger import picture_keys, place_groups, read_placements, write_placements
from stages.runtime.errors import UserError

FRACTIONS = (0.7, 0.15, 0.15)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "metrics/splits.csv"
    write_placements(path, ["b", "a", "a"], ["val", "train", "train"])
    assert path.read_text(encoding="utf-8") == "picture,split\na,train\nb,val\n"
    assert read_placements(path) == {"a": "train", "b": "val"}


def test_without_a_file_nothing_is_remembered(tmp_path):
    assert read_placements(tmp_path / "splits.csv") == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"picture\n", b"picture,split\na\n", b"picture,split\na,training\n", b"\xff\xfe", b'picture,split\n"'],
)
def test_a_file_that_is_no_such_memory_is_a_users_mistake(tmp_path, content):
    (tmp_path / "splits.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"splits\.csv: .*restore it from git, or remove it"):
        read_placements(tmp_path / "splits.csv")


def test_another_seed_or_other_fractions_know_no_picture():
    keys = {
        *picture_keys(["0f" * 32], 1, FRACTIONS),
        *picture_keys(["0f" * 32], 2, FRACTIONS),
        *picture_keys(["0f" * 32], 1, (0.8, 0.1, 0.1)),
    }
    assert len(keys) == 3
    assert picture_keys(["0f" * 32], 1, FRACTIONS) == picture_keys(["0f" * 32], 1, [0.7, 0.15, 0.15])


def test_a_group_stands_where_most_of_its_pictures_stood():
    groups = ["x", "x", "x", "y", "y", "z"]
    placements = {"a": "train", "b": "test", "c": "test", "d": "val"}
    assert place_groups(list("abcdef"), groups, placements) == {"x": "test", "y": "val"}
