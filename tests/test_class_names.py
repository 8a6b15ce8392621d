"""Labels and their names: the order of the class numbers, classes.txt, and mistakes in it."""

import unicodedata

import pytest

from stages.dataset.class_names import find_alike, name_classes, sort_labels
from stages.runtime.errors import UserError


def _name(folder, content, labels):
    """Write classes.txt and return the names, in label order."""
    (folder / "classes.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(name_classes(folder, labels).items())


def _problems(folder, content, labels):
    with pytest.raises(UserError) as caught:
        _name(folder, content, labels)
    where = f"{folder}/classes.txt: "
    assert all(problem.startswith(where) and "\n" not in problem for problem in caught.value.args)
    return [problem.removeprefix(where) for problem in caught.value.args]


def test_labels_are_sorted_by_code_point_and_by_value_if_all_are_numbers():
    assert sort_labels(["rose", "Iris", "10", "9", "été", "rose"]) == ["10", "9", "Iris", "rose", "été"]
    assert sort_labels(["10", "9", "1", "01", "103"]) == ["01", "1", "9", "10", "103"]
    assert sort_labels(["10", "9", "²"]) == ["10", "9", "²"]


def test_names_that_differ_only_in_case_spaces_accents_encoding_or_invisible_characters_are_found():
    decomposed = unicodedata.normalize("NFD", "été")
    assert find_alike(
        ["rose", "Rose", "iris", "été", decomposed, "STRASSE", "straße", "a b", "a  b ", "a\u200b b", "1", "001", "1.0"]
    ) == [
        ["001", "1"],
        ["Rose", "rose"],
        ["STRASSE", "straße"],
        ["a  b ", "a b", "a\u200b b"],
        [decomposed, "été"],
    ]


def test_without_classes_txt_classes_are_named_by_their_labels(tmp_path):
    (tmp_path / "classes.txt").mkdir()  # a class may have this name
    assert list(name_classes(tmp_path, ["10", "9"]).items()) == [("9", "9"), ("10", "10")]


def test_a_line_names_a_class_and_lines_of_others_do_no_harm(tmp_path):
    content = b"\xef\xbb\xbfrose , Dog rose, or briar\r\n\r\n001,Water lily\r\n002,Lotus\r\n"
    assert _name(tmp_path, content, ["rose", "001"]) == [("001", "Water lily"), ("rose", "Dog rose, or briar")]


def test_a_line_names_a_class_however_unicode_writes_its_accents(tmp_path):
    decomposed = unicodedata.normalize("NFD", "été")
    assert _name(tmp_path, "été,Summer\nb,B\n", [decomposed, "b"]) == [("b", "B"), (decomposed, "Summer")]
    assert _name(tmp_path, f"{decomposed},Summer\nb,B\n", ["été", "b"]) == [("b", "B"), ("été", "Summer")]


def test_a_class_whose_name_has_a_comma_a_quote_or_outer_spaces_is_named_in_quotes(tmp_path):
    content = '"a, b",One\n"cat ","Cat, ""Felix"""\n"say ""x""" , Two\nplain,"Half" quoted\n5" pipe,Three\n'
    assert _name(tmp_path, content, ["a, b", "cat ", 'say "x"', "plain", '5" pipe']) == [
        ('5" pipe', "Three"),
        ("a, b", "One"),
        ("cat ", 'Cat, "Felix"'),
        ("plain", '"Half" quoted'),
        ('say "x"', "Two"),
    ]
    assert _name(tmp_path, "cat,Cat\ndog,Dog\n", ["cat ", "dog"]) == [("cat ", "Cat"), ("dog", "Dog")]
    assert [line[:6] for line in _problems(tmp_path, '"a,b\nb,""\n', "b")[:2]] == ["line 1", "line 2"]


def test_mistakes_of_all_kinds_are_named_at_once(tmp_path):
    content = "a,one\nb\nc,\nd,x\x1b\na,two\ne,One\nf,three\n"
    problems = _problems(tmp_path, content, list("abcdefg"))
    assert [problem.split(":")[0] for problem in problems[:4]] == ["line 2", "line 3", "line 4", "line 5"]
    assert "b, c, d, g;" in problems[4]
    assert "found One and one" in problems[5]
    assert len(problems) == 6
