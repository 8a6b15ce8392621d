"""Whatever stands in classes.txt or labels.csv: a result that keeps its promises, or lines that say what is wrong.

QUINTET_FUZZ=20 tries twenty times as many.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.dataset.class_names import find_alike, name_classes, name_key, sort_labels
from stages.dataset.folders import list_folder
from stages.dataset.label_files import find_name_fault
from stages.dataset.rejections import REASONS
from stages.runtime.errors import UserError

FILES = ("a/1.jpg", "a/2.jpg", "b/3.jpg", "b/c d/4.jpg", ".5.jpg", "Thumbs.db", "b\\6.jpg")

fuzz = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=250 * int(os.environ.get("QUINTET_FUZZ", "1")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \n"])
starts = st.sampled_from(["", "", "\ufeff", "\n"])
odd_text = st.text(st.sampled_from(" \t,;\"'\\/.\n\r\x00\x0b\x0c\x1b\x85\u2028\u3000\ufeff01aAéß٣"), max_size=6)
words = st.sampled_from(["rose", "Rose", "dog rose", "iris", "a", "A", "b", "ß", "ss", "é", "e\u0301", "x, y"])
numbers = st.sampled_from(["0", "1", "2", "3", "01", "001", "002", "10", "-1", "1.5", "²", "9" * 5000])
names = words | numbers | odd_text | st.text(max_size=4)
label_lists = st.one_of(
    st.lists(numbers, min_size=2, max_size=4),
    st.lists(words, min_size=2, max_size=4),
    st.lists(words | numbers, min_size=2, max_size=4),
).filter(lambda labels: len(set(labels)) > 1 and not find_alike(labels))


# of ten values, how many are changed for odd ones: none, so that there are results as well; a few; most
oddness = st.sampled_from([0, 0, 1, 1, 7])


@st.composite
def class_lines(draw: st.DrawFn, labels: list[str]) -> str:
    """Lines that are right for the labels, or nearly: in one form, with all ids, in any order."""
    odd = draw(oddness)

    def choose(usual: str, others: st.SearchStrategy) -> str:
        return draw(others) if draw(st.integers(0, 9)) < odd else usual

    ordered = sort_labels(labels)
    separator = draw(st.sampled_from([None, " ", "\t", ",", ", "]))
    ids = draw(st.sampled_from([ordered, [str(i) for i in range(9)], [str(i) for i in range(1, 9)]]))[: len(ordered)]
    rows = [(its_id, f"name {its_id}") for its_id in ids]
    rows += rows[: draw(st.integers(0, 1)) if odd else 0]
    lines = []
    for its_id, name in draw(st.permutations(rows)):
        name = choose(name, names)
        its_separator = choose(separator, st.sampled_from([None, ",", "\t"]))
        lines.append(name if its_separator is None else f"{choose(its_id, names)}{its_separator}{name}")
    return draw(starts) + draw(line_ends).join(lines) + draw(st.sampled_from(["", "\n"]))


@st.composite
def label_tables(draw: st.DrawFn) -> str:
    """A labels.csv that is right, or nearly."""
    odd = draw(oddness)

    def choose(usual: str, others: st.SearchStrategy) -> str:
        return draw(others) if draw(st.integers(0, 9)) < odd else usual

    columns = draw(st.permutations(["path", "label", *draw(st.sampled_from([[], ["split"], ["split", "more"]]))]))
    splits = draw(st.sampled_from([["train"], ["train", "Val"], ["train", "valid", "TEST"], [""]]))
    odd_paths = st.sampled_from(["./a/1.jpg", "../x", "/etc", "gone.jpg", "a", "b\\c d\\4.jpg"]) | odd_text
    odd_splits = st.sampled_from(["val", "validation", "dev", ""]) | odd_text
    rows = [[choose(column, names) for column in columns]]
    for number, path in enumerate(draw(st.permutations(FILES))):
        cells = {
            "path": choose(path, odd_paths),
            "label": choose("ab"[number % 2], names),
            "split": choose(splits[number // 2 % len(splits)], odd_splits),
            "more": draw(odd_text),
        }
        rows.append([cells[column] for column in columns][: 1 if choose("", st.just("cut")) else None])
    quotes = choose('"', st.just(""))
    lines = [",".join(f"{quotes}{cell.replace(quotes or ' ', '')}{quotes}" for cell in row) for row in rows]
    return draw(starts) + draw(line_ends).join(lines)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder with a few files, in which every example writes its own classes.txt or labels.csv."""
    with tempfile.TemporaryDirectory() as temporary:
        for path in FILES:
            (Path(temporary) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(temporary) / path).touch()
        yield Path(temporary)


def _check_lines(error: UserError) -> None:
    assert error.args
    for problem in error.args:
        assert isinstance(problem, str)
        assert problem.strip()
        assert len(problem.splitlines()) == 1
        assert len(problem) < 20_000
        problem.encode()  # nothing that a terminal or a log would choke on


def _check_names(folder: Path, content: bytes, labels: list[str]) -> None:
    (folder / "classes.txt").write_bytes(content)
    try:
        named = name_classes(folder, labels)
    except UserError as error:
        _check_lines(error)
    else:
        assert list(named) == sort_labels(labels)
        assert len({name_key(name) for name in named.values()}) == len(named)
        assert not any(find_name_fault(name) for name in named.values())
        text = content.decode("utf-8-sig")
        assert all(name in text for name in named.values())


def _check_listing(folder: Path, content: bytes) -> None:
    (folder / "labels.csv").write_bytes(content)
    try:
        listing = list_folder(folder)
    except UserError as error:
        _check_lines(error)
    else:
        paths = [file.path for file in listing.files]
        assert paths == sorted(set(paths))
        assert set(paths) <= set(FILES)
        labels = {file.label for file in listing.files}
        assert len(labels) > 1
        assert not find_alike(labels)
        assert not any(find_name_fault(label) for label in labels)
        splits = {file.split for file in listing.files}
        assert splits == {None} or "train" in splits <= {"train", "val", "test"}
        assert {(file.split, file.label) for file in listing.files} == {(s, label) for s in splits for label in labels}
        assert listing.rejections == sorted(listing.rejections)
        assert all(each.reason in REASONS and len(each.path.splitlines()) == 1 for each in listing.rejections)
        assert len(paths) + sum(listing.passed_over.values()) == len(FILES)


@fuzz
@given(content=st.binary(max_size=200), labels=label_lists)
def test_any_bytes_in_classes_txt_give_names_or_say_why_not(folder, content, labels):
    _check_names(folder, content, labels)


@fuzz
@given(content=st.text(max_size=60) | odd_text, labels=label_lists)
def test_any_text_in_classes_txt_gives_names_or_says_why_not(folder, content, labels):
    _check_names(folder, content.encode(errors="surrogatepass"), labels)


@fuzz
@given(data=st.data(), labels=label_lists)
def test_nearly_right_lines_in_classes_txt_give_names_or_say_why_not(folder, data, labels):
    _check_names(folder, data.draw(class_lines(labels)).encode(errors="surrogatepass"), labels)


@fuzz
@given(content=st.binary(max_size=200))
def test_any_bytes_in_labels_csv_give_a_listing_or_say_why_not(folder, content):
    _check_listing(folder, content)


@fuzz
@given(content=st.text(max_size=60) | odd_text)
def test_any_text_below_the_header_of_labels_csv_gives_a_listing_or_says_why_not(folder, content):
    _check_listing(folder, f"path,label\n{content}".encode(errors="surrogatepass"))


@fuzz
@given(content=label_tables())
def test_nearly_right_tables_in_labels_csv_give_a_listing_or_say_why_not(folder, content):
    _check_listing(folder, content.encode(errors="surrogatepass"))
