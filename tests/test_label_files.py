"""The text files beside the images: how labels.csv is read, and that every mistake in it is named with its line."""

import os

import pytest

from stages.dataset.label_files import (
    MAX_PROBLEMS,
    LabelRow,
    find_name_fault,
    printable,
    read_labels,
    read_text,
    shorten,
)
from stages.runtime.errors import UserError


def _write(folder, content):
    """Write labels.csv."""
    (folder / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())


def _rows(folder, content):
    _write(folder, content)
    rows, problems = read_labels(folder)
    assert problems == []
    return [(row.path, row.label, row.split) for row in rows]


def _problems(folder, content):
    """Return what is wrong with labels.csv, without the path that each line begins with."""
    _write(folder, content)
    _, problems = read_labels(folder)
    where = f"{folder}/labels.csv: "
    assert all(problem.startswith(where) for problem in problems)
    return [problem.removeprefix(where) for problem in problems]


def test_a_row_has_its_line_path_label_and_split(tmp_path):
    _write(tmp_path, "path,label,split\na.jpg,rose,train\nb/c.jpg,iris,test\n")
    rows, problems = read_labels(tmp_path)
    assert rows == [LabelRow(2, "a.jpg", "rose", "train"), LabelRow(3, "b/c.jpg", "iris", "test")]
    assert problems == []


def test_columns_may_stand_in_any_order_and_case_and_others_are_ignored(tmp_path):
    assert _rows(tmp_path, " Label ,height,PATH\nrose,3,a.jpg\n") == [("a.jpg", "rose", None)]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfpath,label\na.jpg,rose\nb.jpg,iris\n",
        b"path,label\r\na.jpg,rose\r\nb.jpg,iris\r\n",
        b"path,label\ra.jpg,rose\rb.jpg,iris\r",
        b"path,label\na.jpg,rose\nb.jpg,iris",
        b"\n\npath,label\n\na.jpg,rose\n , \nb.jpg,iris\n\n",
        b'"path","label"\n"a.jpg","rose"\n"b.jpg", "iris"\n',
        b"path,label,\na.jpg,rose,\nb.jpg,iris,,\n",
    ],
    ids=["byte order mark", "CRLF", "CR", "no last line end", "blank lines", "quoted", "last comma"],
)
def test_the_same_table_is_read_however_it_was_saved(tmp_path, content):
    assert _rows(tmp_path, content) == [("a.jpg", "rose", None), ("b.jpg", "iris", None)]


def test_quoted_cells_may_hold_commas_and_quotes(tmp_path):
    assert _rows(tmp_path, 'path,label\n"a, b.jpg","the ""red"" one"\n') == [("a, b.jpg", 'the "red" one', None)]


@pytest.mark.parametrize("name", ["val", "valid", "Validation", " VAL "])
def test_all_words_for_val_mean_val(tmp_path, name):
    assert _rows(tmp_path, f"path,label,split\na.jpg,rose,{name}\n") == [("a.jpg", "rose", "val")]


def test_an_empty_split_column_gives_no_split(tmp_path):
    assert _rows(tmp_path, "path,label,split\na.jpg,rose,\nb.jpg,iris\n") == [
        ("a.jpg", "rose", None),
        ("b.jpg", "iris", None),
    ]


def test_paths_are_put_into_their_simplest_form(tmp_path):
    content = "path,label\n./a.jpg,rose\nb//c.jpg,rose\nb/../d.jpg,rose\n"
    assert [path for path, *_ in _rows(tmp_path, content)] == ["a.jpg", "b/c.jpg", "d.jpg"]


def test_backslashes_of_windows_are_read_as_slashes(tmp_path):
    assert _rows(tmp_path, "path,label\nrose\\more\\a.jpg,rose\n") == [("rose/more/a.jpg", "rose", None)]


def test_a_backslash_that_is_in_a_files_name_is_kept(tmp_path):
    (tmp_path / "a\\b.jpg").touch()
    assert _rows(tmp_path, "path,label\na\\b.jpg,rose\n") == [("a\\b.jpg", "rose", None)]


def test_blanks_around_a_path_are_kept_only_if_the_file_is_called_so(tmp_path):
    (tmp_path / "b.jpg ").touch()
    assert [path for path, *_ in _rows(tmp_path, "path,label\na.jpg ,rose\nb.jpg ,rose\n")] == ["a.jpg", "b.jpg "]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " ,,\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    (problem,) = _problems(tmp_path, content)
    assert "line 1: expected a header with the columns path and label, found an empty file" in problem


@pytest.mark.parametrize(
    ("header", "missing"),
    [("path,class", "add label"), ("label,file", "add path"), ("a.jpg,rose", "add path and label")],
)
def test_a_missing_column_is_named_beside_those_that_were_found(tmp_path, header, missing):
    (problem,) = _problems(tmp_path, f"{header}\nb.jpg,iris\n")
    assert problem.startswith(f"line 1: expected the columns path and label, found {header.replace(',', ', ')}; ")
    assert missing in problem


@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_than_the_comma_is_named(tmp_path, separator):
    (problem,) = _problems(tmp_path, f"path{separator}label\na.jpg{separator}rose\n")
    assert problem.endswith("separate the columns by commas")


def test_a_column_that_stands_there_twice_is_refused(tmp_path):
    (problem,) = _problems(tmp_path, "path,label,Label\na.jpg,rose,iris\n")
    assert problem.endswith("remove one label")


def test_all_mistakes_are_named_at_once_by_line(tmp_path):
    lines = [
        "path,label,split",
        ",rose,train",
        "a.jpg,,train",
        "b.jpg,rose,train",
        "./b.jpg,iris,train",
        "/etc/c.jpg,rose,train",
        "../d.jpg,rose,train",
        "e.jpg,rose,dev",
        "f.jpg,rose,",
        "g,h.jpg,rose,train",
        "C:\\i.jpg,rose,train",
        ".,  ,nowhere",
    ]
    found = _problems(tmp_path, "\n".join(lines))
    expected = [
        "line 2: the path is empty",
        "line 3: the label is empty",
        "line 5: b.jpg stands in line 4 already",
        "line 6: /etc/c.jpg is an absolute path",
        "line 7: ../d.jpg leads to no file in the folder",
        "line 8: expected the split train, val or test, found dev",
        "line 9: the split is empty, but line 2 has one",
        "line 10: expected 3 cells, found 4",
        "line 10: expected the split train, val or test, found rose",
        "line 11: C:/i.jpg is an absolute path",
        "line 12: . leads to no file in the folder",
        "line 12: expected the split train, val or test, found nowhere",
        "line 12: the label is empty",
    ]
    assert len(found) == len(expected)
    assert all(one.startswith(other) for one, other in zip(found, expected, strict=True))


def test_a_line_number_counts_the_line_breaks_in_quotes(tmp_path):
    found = _problems(tmp_path, 'path,label,note\na.jpg,rose,"one\ntwo"\nb.jpg,,x\n')
    assert found == ["line 4: the label is empty; give the name of the image's class"]


@pytest.mark.parametrize("label", ['"ro\nse"', '"ro\tse"', "ro\x00se", "ro\x1bse", "ro\u2028se"])
def test_a_label_with_a_control_character_is_refused(tmp_path, label):
    (problem,) = _problems(tmp_path, f"path,label\na.jpg,{label}\n")
    assert problem.startswith("line 2: ")


def test_a_label_too_long_to_be_a_name_is_refused_with_its_length(tmp_path):
    (problem,) = _problems(tmp_path, f"path,label\na.jpg,{'r' * 256}\n")
    assert "line 2: the label has 256 characters, more than 255" in problem


@pytest.mark.parametrize(
    "content",
    ['path,label\n"a.jpg,rose\nb.jpg,iris\n', 'path,label\n"a.jpg"x,rose\n', f"path,label\n{'a' * 200_000},b\n"],
)
def test_what_is_no_csv_is_refused_with_its_line(tmp_path, content):
    (problem,) = _problems(tmp_path, content)
    assert problem.startswith("line 2: expected comma-separated values")


def test_a_header_and_a_row_that_are_both_broken_are_both_named(tmp_path):
    first, second = _problems(tmp_path, 'file,label\n"a.jpg,rose\n')
    assert first.startswith("line 1: expected the columns")
    assert second.startswith("line 2: expected comma-separated")


def test_of_very_many_mistakes_the_first_and_their_number_are_told(tmp_path):
    found = _problems(tmp_path, "path,label\n" + ",rose\n" * (MAX_PROBLEMS + 7))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-2].startswith(f"line {MAX_PROBLEMS + 1}: ")
    assert found[-1].startswith("and 7 more")


def test_no_problem_is_left_out_of_a_list_that_is_short_enough():
    problems = [str(number) for number in range(MAX_PROBLEMS)]
    assert shorten(problems, "here") == problems


def test_another_encoding_is_refused_with_the_line(tmp_path):
    _write(tmp_path, "path,label\na.jpg,Bl\xfcte\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"labels.csv: line 2: expected UTF-8"):
        read_labels(tmp_path)


def test_a_text_larger_than_allowed_is_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"12345")
    assert read_text(tmp_path / "text", 5) == "12345"
    with pytest.raises(UserError, match="at most 4 bytes"):
        read_text(tmp_path / "text", 4)


def test_no_file_and_a_folder_are_no_text(tmp_path):
    (tmp_path / "folder").mkdir()
    assert read_text(tmp_path / "folder", 9) is None
    assert read_text(tmp_path / "nothing", 9) is None


def test_a_pipe_is_refused_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    with pytest.raises(UserError, match="pipe: expected a text file, found a pipe"):
        read_text(tmp_path / "pipe", 9)


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "text").symlink_to("nowhere")
    with pytest.raises(UserError, match="text: expected a text file, found none"):
        read_text(tmp_path / "text", 9)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Rosé 玫瑰 a\\b", "Rosé 玫瑰 a\\b"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x00\x1b\x7f\x85", "\\x00\\x1b\\x7f\\x85"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped_and_nothing_else(text, escaped):
    assert printable(text) == escaped


def test_names_of_any_script_are_without_fault():
    assert [
        name for name in ("rose", "001", "Rosa canina L., 1753", "玫瑰", "\U0001f339") if find_name_fault(name)
    ] == []


@pytest.mark.parametrize("name", ["", " ", "\t", "a\nb", "a\x00", "\udcff", "a" * 256])
def test_a_name_that_cannot_be_shown_has_a_fault(name):
    assert find_name_fault(name)
