"""Labels and their names: the order that numbers them, the forms of classes.txt, and the mistakes in it."""

import time
import unicodedata

import pytest

from stages.dataset.class_names import MAX_NAMES_BYTES, find_alike, name_classes, sort_labels
from stages.runtime.errors import UserError


def _name(folder, content, labels):
    """Write classes.txt and return the names, in label order."""
    (folder / "classes.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(name_classes(folder, labels).items())


def _problems(folder, content, labels):
    """Return what is wrong with classes.txt, without the path that each line begins with."""
    with pytest.raises(UserError) as caught:
        _name(folder, content, labels)
    where = f"{folder}/classes.txt: "
    assert all(problem.startswith(where) and "\n" not in problem for problem in caught.value.args)
    return [problem.removeprefix(where) for problem in caught.value.args]


def test_labels_are_sorted_by_code_point():
    assert sort_labels(["rose", "Iris", "10", "9", "été"]) == ["10", "9", "Iris", "rose", "été"]


def test_labels_that_are_all_numbers_are_sorted_by_value():
    assert sort_labels(["10", "9", "0", "103"]) == ["0", "9", "10", "103"]
    assert sort_labels(["002", "101", "010"]) == ["002", "010", "101"]


def test_labels_of_the_same_value_are_sorted_by_text():
    assert sort_labels(["1", "2", "01", "001"]) == ["001", "01", "1", "2"]


@pytest.mark.parametrize("other", ["-1", "1.5", "1e3", "²", "٣"])
def test_only_digits_make_a_number(other):
    assert sort_labels(["10", "9", other]) == sorted(["10", "9", other])


def test_numbers_of_any_length_can_be_sorted():
    assert sort_labels(["9" * 5000, "1" + "0" * 5000]) == ["9" * 5000, "1" + "0" * 5000]


def test_a_label_given_twice_is_one_class(tmp_path):
    assert list(name_classes(tmp_path, ["b", "a", "b"])) == ["a", "b"]


def test_names_that_differ_only_in_case_or_accents_encoding_are_found():
    composed = "été"
    decomposed = unicodedata.normalize("NFD", composed)
    assert find_alike(["rose", "Rose", "iris", composed, decomposed, "STRASSE", "straße"]) == [
        ["Rose", "rose"],
        ["STRASSE", "straße"],
        [decomposed, composed],
    ]


def test_without_classes_txt_classes_are_named_by_their_labels(tmp_path):
    assert list(name_classes(tmp_path, ["10", "9"]).items()) == [("9", "9"), ("10", "10")]


def test_a_class_folder_called_classes_txt_names_nothing(tmp_path):
    (tmp_path / "classes.txt").mkdir()
    assert name_classes(tmp_path, ["classes.txt", "rose"]) == {"classes.txt": "classes.txt", "rose": "rose"}


def test_names_alone_are_given_in_label_order(tmp_path):
    assert _name(tmp_path, "Dwarf iris\nDog rose, 1753\n", ["rose", "iris"]) == [
        ("iris", "Dwarf iris"),
        ("rose", "Dog rose, 1753"),
    ]


def test_names_alone_are_given_in_numeric_order_if_labels_are_numbers(tmp_path):
    assert _name(tmp_path, "nine\nten\n", ["10", "9"]) == [("9", "nine"), ("10", "ten")]


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfred\nblue\n", b"red\r\nblue\r\n", b"red\rblue\r", b"\n  red\t\n\n \nblue"],
    ids=["byte order mark", "CRLF", "CR", "blanks"],
)
def test_the_same_names_are_read_however_they_were_saved(tmp_path, content):
    assert _name(tmp_path, content, ["a", "b"]) == [("a", "red"), ("b", "blue")]


@pytest.mark.parametrize("separator", [" ", "   ", "\t", ",", ", ", " , ", "\u3000"])
def test_an_id_may_be_parted_from_its_name_by_blanks_or_a_comma(tmp_path, separator):
    content = f"iris{separator}Dwarf iris\nrose{separator}Dog rose, or briar\n"
    assert _name(tmp_path, content, ["rose", "iris"]) == [("iris", "Dwarf iris"), ("rose", "Dog rose, or briar")]


def test_lines_with_ids_may_stand_in_any_order(tmp_path):
    assert _name(tmp_path, "c,three\na,one\nb,two\n", ["a", "b", "c"]) == [("a", "one"), ("b", "two"), ("c", "three")]


def test_ids_of_numbers_may_have_other_leading_zeros(tmp_path):
    assert _name(tmp_path, "1 one\n0002 two\n010 ten\n", ["001", "002", "010"]) == [
        ("001", "one"),
        ("002", "two"),
        ("010", "ten"),
    ]


def test_an_id_written_as_the_label_is_that_label(tmp_path):
    assert _name(tmp_path, "01 first\n1 second\n", ["1", "01"]) == [("01", "first"), ("1", "second")]


def test_an_id_that_fits_two_labels_is_refused(tmp_path):
    found = _problems(tmp_path, "01 first\n001 second\n", ["1", "01"])
    assert found[0].startswith("line 2: 001 fits 01 and 1; ")
    assert "found none for 1" in found[1]


@pytest.mark.parametrize("first", [0, 1])
def test_where_no_label_is_a_number_ids_may_be_the_classes_numbers(tmp_path, first):
    content = f"{first + 1},red\n{first} blue\n{first + 2}\tgreen\n"
    assert _name(tmp_path, content, ["x", "z", "y"]) == [("x", "blue"), ("y", "red"), ("z", "green")]


def test_where_a_label_is_a_number_ids_are_labels_only(tmp_path):
    found = _problems(tmp_path, "0 red\n1 blue\n2 green\n", ["1", "2", "rose"])
    assert found[0].startswith("line 1: expected the id of a class, found 0; ")
    assert "found none for rose" in found[1]


def test_an_id_may_be_written_in_another_case_or_encoding_of_accents(tmp_path):
    decomposed = unicodedata.normalize("NFD", "été")
    assert _name(tmp_path, "Été,summer\nRose,rose\n", ["rose", decomposed]) == [
        (decomposed, "summer"),
        ("rose", "rose"),
    ]


def test_a_label_with_a_blank_in_it_is_an_id_before_a_comma_or_a_tab(tmp_path):
    labels = ["sea lion", "sea"]
    assert _name(tmp_path, "sea lion,Zalophus\nsea,Mare\n", labels) == [("sea", "Mare"), ("sea lion", "Zalophus")]
    assert _name(tmp_path, "sea lion\tZalophus\nsea\tMare\n", labels) == [("sea", "Mare"), ("sea lion", "Zalophus")]


def test_names_with_commas_of_imagenets_kind_are_kept_whole(tmp_path):
    content = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    assert _name(tmp_path, content, ["n01440764", "n01443537"]) == [
        ("n01440764", "tench, Tinca tinca"),
        ("n01443537", "goldfish, Carassius auratus"),
    ]


def test_the_labels_themselves_name_themselves_in_any_order(tmp_path):
    assert _name(tmp_path, "Rose\niris\n", ["iris", "rose"]) == [("iris", "iris"), ("rose", "Rose")]
    assert _name(tmp_path, "2\n1\n", ["1", "2"]) == [("1", "1"), ("2", "2")]
    assert _name(tmp_path, "001 rose\n002 iris\n", ["001 rose", "002 iris"]) == [
        ("001 rose", "001 rose"),
        ("002 iris", "002 iris"),
    ]


def test_a_number_that_fits_two_labels_may_be_a_name(tmp_path):
    assert _name(tmp_path, "001\nx\n", ["1", "01"]) == [("01", "001"), ("1", "x")]


def test_a_name_in_the_place_of_another_class_is_refused(tmp_path):
    found = _problems(tmp_path, "Rose\nTulip\nDaisy\n", ["iris", "rose", "tulip"])
    assert [problem.split(";")[0] for problem in found] == [
        "line 1: expected a name for iris, found Rose, which is another class",
        "line 2: expected a name for rose, found Tulip, which is another class",
    ]


@pytest.mark.parametrize("content", ["", "\n \n", "one\n", "one\ntwo\nthree\n"])
def test_another_number_of_names_than_classes_is_refused_with_both(tmp_path, content):
    (problem,) = _problems(tmp_path, content, ["a", "b"])
    n_names = len(content.split())
    assert problem.startswith(f"expected 2 names, one for each class, from a to b, found {n_names}; ")


def test_a_file_of_both_forms_is_refused_with_the_lines_of_each(tmp_path):
    (problem,) = _problems(tmp_path, "001 one\n\n002 two\nthree\n", ["001", "002", "003"])
    assert "an id in lines 1, 3, none in line 4" in problem


def test_unknown_repeated_and_missing_ids_are_all_named(tmp_path):
    found = _problems(tmp_path, "1 one\n7 seven\n1 again\n2 two\n", ["1", "2", "3", "4"])
    assert [problem.split(";")[0] for problem in found] == [
        "line 2: expected the id of a class, found 7",
        "line 3: 1 is named in line 1 already",
        "expected a name for every class, found none for 3, 4",
    ]


def test_numbers_beyond_the_classes_are_unknown_ids(tmp_path):
    found = _problems(tmp_path, "1 one\n3 three\n", ["a", "b"])
    assert "line 2: expected the id of a class, found 3; the ids are a, b, or 0 to 1, or 1 to 2" in found
    assert "found none for b" in found[1]


def test_names_that_stand_there_twice_are_refused_with_their_lines(tmp_path):
    found = _problems(tmp_path, "one\ntwo\nOne\ntwo\nfive\n", list("abcde"))
    assert [problem.split(";")[0] for problem in found] == [
        "lines 1, 3: expected a name of its own for every class, found One and one again",
        "lines 2, 4: expected a name of its own for every class, found two again",
    ]


@pytest.mark.parametrize("line", ["2", "2 ", "2,", "2\t", "2,\u3000"])
def test_an_id_without_a_name_is_refused(tmp_path, line):
    (problem,) = _problems(tmp_path, f"1 one\n{line}\n", ["1", "2"])
    assert problem.startswith("line 2: the name is empty")


@pytest.mark.parametrize("name", ["a\x00", "a\x1b[1m", "a\x0cb", "a\x85", "a\u2028b", "a\tb"])
def test_a_name_with_a_control_character_is_refused(tmp_path, name):
    (problem,) = _problems(tmp_path, f"1,{name}\n2,two\n", ["1", "2"])
    assert problem.startswith("line 1: the name has a line break, a tab or another character")


def test_mistakes_of_all_kinds_are_named_at_once(tmp_path):
    found = _problems(tmp_path, "1 one\n9 nine\n2 ONE\n3\n4 a\x00\n", ["1", "2", "3", "4", "5"])
    assert len(found) == 5  # 9 is unknown, 5 is missing, 3 has no name, 4 an unprintable one, one is there twice


def test_another_encoding_is_refused_with_the_line(tmp_path):
    (problem,) = _problems(tmp_path, "rose\nBlüte\n".encode("latin-1"), ["1", "2"])
    assert problem.startswith("line 2: expected UTF-8")


def test_a_file_that_is_too_large_is_refused(tmp_path):
    with (tmp_path / "classes.txt").open("wb") as file:
        file.truncate(MAX_NAMES_BYTES + 1)
    with pytest.raises(UserError, match=r"classes\.txt: expected at most 10000000 bytes"):
        name_classes(tmp_path, ["1", "2"])


@pytest.mark.parametrize("content", [b"x" * MAX_NAMES_BYTES, b"x," * (MAX_NAMES_BYTES // 2), b"x\n" * 10**5])
def test_a_file_that_is_just_not_too_large_is_refused_within_seconds(tmp_path, content):
    started = time.process_time()
    problems = _problems(tmp_path, content, ["1", "2"])
    assert sum(map(len, problems)) < 100_000
    assert time.process_time() - started < 30


def test_of_very_many_mistakes_the_first_and_their_number_are_told(tmp_path):
    labels = [str(number) for number in range(200)]
    found = _problems(tmp_path, "".join(f"{label},\n" for label in labels), labels)
    assert len(found) == 51
    assert found[-1].startswith("and 150 more")
