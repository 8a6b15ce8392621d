"""labels.csv: how it is read, and that every mistake is reported with its line."""

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.dataset.label_table import LabelRow, read_label_table
from stages.dataset.layouts import list_folder
from stages.runtime.errors import UserError
from tests.image_folders import touch


def _read(folder, content):
    (folder / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_label_table(folder / "labels.csv")


def _problems(folder, content):
    """Return the mistakes in labels.csv, without the path at the beginning of each line."""
    with pytest.raises(UserError) as caught:
        _read(folder, content)
    where = f"{folder}/labels.csv: "
    assert all(problem.startswith(where) for problem in caught.value.args)
    return [problem.removeprefix(where) for problem in caught.value.args]


def test_a_row_has_its_line_path_label_and_split(tmp_path):
    content = ' Label ,height,PATH,split\nrose,3,./a.jpg,train\n"the ""red"" one",4,"b, c\\d.jpg",Testing\n'
    assert _read(tmp_path, content) == [
        LabelRow(2, "a.jpg", "rose", "train"),
        LabelRow(3, "b, c/d.jpg", 'the "red" one', "test"),
    ]
    composed, decomposed = "été", unicodedata.normalize("NFD", "été")
    rows = _read(tmp_path, f"path,label,group\n1.jpg,{composed},{composed}\n2.jpg,{decomposed},{decomposed}\n")
    assert {row[2:] for row in rows} == {(composed, None, composed)}  # one class, because both look the same


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfpath,label,split\r\na.jpg,rose,\r\nb.jpg,iris,\r\n",
        b"path,label\ra.jpg,rose\rb.jpg,iris\r",
        b'"path","label",\n\n"a.jpg","rose"\n , \n"b.jpg", iris ,,\n,,',
        b'path;label;note\r\na.jpg;rose;\r\n"b.jpg";iris;small, red\r\n',
        "path\tlabel\r\na.jpg\trose\r\nb.jpg\tiris\r\n".encode("utf-16"),
    ],
    ids=["byte order mark and CRLF", "CR", "quotes, blank lines and last commas", "semicolons", "tabs in UTF-16"],
)
def test_the_same_table_is_read_however_it_was_saved(tmp_path, content):
    assert [row[1:4] for row in _read(tmp_path, content)] == [("a.jpg", "rose", None), ("b.jpg", "iris", None)]


@pytest.mark.parametrize("header", ["", "path,class", "path|label", "path;label;Label"])
def test_a_header_without_one_path_and_one_label_is_refused(tmp_path, header):
    (problem,) = _problems(tmp_path, f"{header}\na.jpg,rose\n")
    assert problem.startswith("line 1: expected the columns path and label")
    assert (header.lower().replace(";", ",") or "none") in problem


def test_all_mistakes_are_named_at_once_by_line(tmp_path):
    lines = [
        "path,label,split",
        "a.jpg,rose,train",
        ",rose,train",
        "b.jpg,,train",
        "./a.jpg,iris,train",
        "c.jpg,rose,nowhere",
        "d.jpg,rose,",
        "e.jpg,rose,train,f.jpg",
        "g.jpg,ro\x1bse,val",
        "/photos/h.jpg,rose,val",
        ",iris,val",
    ]
    problems = _problems(tmp_path, "\n".join(lines))
    assert [problem.split(": ")[0] for problem in problems] == [f"line {number}" for number in range(3, 12)]


@pytest.mark.parametrize("content", ['path,label\n"a.jpg,rose\nb.jpg,iris\n', 'path,label\n"a.jpg"x,rose\n'])
def test_quotes_that_are_not_closed_are_refused(tmp_path, content):
    (problem,) = _problems(tmp_path, content)
    assert "quotes" in problem


def test_another_encoding_is_refused_with_the_line(tmp_path):
    (problem,) = _problems(tmp_path, "path,label\na.jpg,Bl\xfcte\n".encode("latin-1"))
    assert problem.startswith("line 2: expected UTF-8")


pieces = st.sampled_from(["1.jpg,", "2.jpg,", "a", "b", ",", "\n", '"', "\\", ",train", ",val", "\x00", "\u2028"])


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(st.binary(max_size=60) | st.lists(pieces).map(lambda some: f"path,label,split\n{''.join(some)}".encode()))
def test_whatever_stands_in_labels_csv_gives_a_listing_or_says_why_not(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "labels"
    touch(folder, "1.jpg", "2.jpg")
    (folder / "labels.csv").write_bytes(content)
    with suppress(UserError):
        assert [file.path for file in list_folder(folder).files] == ["1.jpg", "2.jpg"]
