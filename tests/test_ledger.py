"""The ledger with the split of each picture: what is written can be read, and test wins."""

import hashlib

import pytest

from stages.dataset.ledger import picture_keys, place_groups, read_ledger, write_ledger
from stages.runtime.errors import UserError

FRACTIONS = (0.7, 0.15, 0.15)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "metrics/splits.csv"
    assert read_ledger(path) == {}
    write_ledger(path, {"b": "val", "a": "train"})
    assert path.read_text(encoding="utf-8") == "picture,split\na,train\nb,val\n"
    assert read_ledger(path) == {"a": "train", "b": "val"}


@pytest.mark.parametrize("content", ["", "picture,split\na,training\n", "picture,split\n<<<<<<< HEAD\na,test\n"])
def test_a_file_that_is_no_ledger_is_a_users_mistake(tmp_path, content):
    (tmp_path / "splits.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"splits\.csv"):
        read_ledger(tmp_path / "splits.csv")


def test_another_seed_or_other_fractions_know_no_picture():
    recipes = [(1, FRACTIONS), (2, FRACTIONS), (1, (0.8, 0.1, 0.1))]
    assert len({picture_keys(["0f" * 32], *recipe)[0] for recipe in recipes}) == 3
    # this key is in the ledgers of users: another key would split their pictures again
    assert picture_keys(["0f"], 1, [0.7, 0.15, 0.15]) == [hashlib.sha256(b"1:0.7:0.15:0.15:0f").hexdigest()[:16]]


def test_a_group_with_an_earlier_place_in_test_stands_in_test():
    ledger = {"a": "train", "b": "train", "c": "test", "d": "val", "e": "train", "g": "train"}
    places = place_groups(list("abcdefg"), ["x", "x", "x", "y", "y", "z", "w"], ledger)
    assert places == {"x": "test", "y": "val", "w": "train"}
