"""The labels of an image folder in; their order, and a name for people for each of them, out.

The names are the labels themselves, or those of the folder's classes.txt: a name a line in label order, or an id and a
name (`001 rose` or `001,rose`). The ids are the labels; where no label is a number, also 0 to n-1 or 1 to n.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.dataset.label_files import find_name_fault, printable, quote, read_text, shorten
from stages.runtime.errors import UserError

NAMES_FILE = "classes.txt"
MAX_NAMES_BYTES = 10 * 10**6
MAX_NUMBERS = 20  # of lines, or of classes, that a message about classes.txt lists
BLANKS = " \t\u00a0\u3000"
SEPARATOR = re.compile(f"[,{BLANKS}]")


@dataclass(frozen=True)
class _Line:
    """A line of classes.txt: the id that it begins with, if it does, and the name."""

    number: int
    id: str | None
    name: str


def name_key(name: str) -> str:
    """Return what two names share that differ only in case, or in how Unicode writes their accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of different names that share a key."""
    groups = defaultdict(list)
    for name in sorted(set(names)):
        groups[name_key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the different labels in the order that numbers them: by code point, or by value if all are numbers."""
    ordered = sorted(set(labels))
    if all(_is_number(label) for label in ordered):
        ordered.sort(key=lambda label: (len(_digits(label)), _digits(label)))
    return ordered


def _is_number(text: str) -> bool:
    return re.fullmatch("[0-9]+", text) is not None


def _digits(number: str) -> str:
    """Return the digits that count: the same for `001` and `1`, and no int(), which refuses thousands of them."""
    return number.lstrip("0")


def name_classes(folder: Path, labels: list[str]) -> dict[str, str]:
    """Return a name for each label, in label order: from classes.txt where there is one, else the label itself.

    Raises:
        UserError: classes.txt does not name every class once; all that is wrong with it, a line each.
    """
    ordered = sort_labels(labels)
    text = read_text(folder / NAMES_FILE, MAX_NAMES_BYTES)
    if text is None:
        return {label: label for label in ordered}
    lines = _read_lines(text, _Ids(ordered))
    names, problems = _match_names(lines, ordered)
    problems += _find_name_problems(lines)
    if problems:
        where = printable(folder / NAMES_FILE)
        raise UserError(*shorten([f"{where}: {problem}" for problem in problems], where))
    return {label: names[label] for label in ordered}


class _Ids:
    """The labels, as an id may write them: in another case, or, if they are numbers, without leading zeros."""

    def __init__(self, labels: list[str], first_number: int | None = None) -> None:
        """Let ids be labels; or, from the first number on, the labels' numbers."""
        self.by_key: dict[str, str] = {}
        self.by_digits = defaultdict(list)
        for number, label in enumerate(labels, first_number or 0):
            if first_number is None:
                self.by_key[name_key(label)] = label
            word = label if first_number is None else str(number)
            if _is_number(word):
                self.by_digits[_digits(word)].append(label)

    def find(self, word: str) -> list[str]:
        """Return the label that the word means; several if that is not clear, none if it is no id."""
        if label := self.by_key.get(name_key(word)):
            return [label]
        return self.by_digits.get(_digits(word), []) if _is_number(word) else []


def _read_lines(text: str, ids: _Ids) -> list[_Line]:
    """Return the lines that are not blank, all of them in the same form unless the file mixes the two."""
    # not splitlines(), for which a form feed ends a line as well
    written = [(number, line.strip(BLANKS)) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1)]
    lines = [_read_line(number, line, ids) for number, line in written if line]
    if any(line.id is not None for line in lines):
        # beside lines with an id and a name, a line that is an id and no more lacks its name
        return [
            _Line(line.number, line.name, "") if line.id is None and _is_id(line.name, ids) else line for line in lines
        ]
    return lines


def _read_line(number: int, line: str, ids: _Ids) -> _Line:
    if not SEPARATOR.search(line) or ids.find(line):
        return _Line(number, None, line)
    cuts = [re.split(separator, line, maxsplit=1) for separator in (",", "\t", f"[{BLANKS}]+")]
    cuts = [(cut[0].strip(BLANKS), cut[1].strip(BLANKS)) for cut in cuts if len(cut) == 2]
    for is_id in (ids.find, _is_number):  # an unknown number is an id as well, to be refused as such
        for word, name in cuts:
            if is_id(word):
                return _Line(number, word, name)
    return _Line(number, None, line)


def _is_id(word: str, ids: _Ids) -> bool:
    return bool(ids.find(word)) or _is_number(word)


def _match_names(lines: list[_Line], labels: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the labels' names, and what is wrong with the lines as a whole."""
    with_id = [line.number for line in lines if line.id is not None]
    without_id = [line.number for line in lines if line.id is None]
    if with_id and without_id:
        return {}, [
            f"expected either a name alone or an id and a name in every line, found an id in {_list_lines(with_id)}, "
            f"none in {_list_lines(without_id)}; write id,name in each"
        ]
    return _match_by_id(lines, labels) if with_id else _match_by_order(lines, labels)


def _match_by_order(lines: list[_Line], labels: list[str]) -> tuple[dict[str, str], list[str]]:
    if len(lines) != len(labels):
        order = f", from {quote(labels[0])} to {quote(labels[-1])}" if labels else ""
        return {}, [f"expected {len(labels)} names, one for each class{order}, found {len(lines)}; mend the list"]
    ids = _Ids(labels)
    meant = [ids.find(line.name) for line in lines]
    if sorted(meant) == sorted([label] for label in labels):  # the labels themselves, in any order
        return {some[0]: line.name for some, line in zip(meant, lines, strict=True)}, []
    rows = list(zip(labels, lines, meant, strict=True))
    problems = [
        f"line {line.number}: expected a name for {quote(label)}, found {quote(line.name)}, which is another class; "
        "give the names in the order of the classes, or write id,name"
        for label, line, some in rows
        if some and label not in some
    ]
    return {label: line.name for label, line, _ in rows}, problems


def _match_by_id(lines: list[_Line], labels: list[str]) -> tuple[dict[str, str], list[str]]:
    ids = _Ids(labels)
    if not any(_is_number(label) for label in labels) and not any(ids.find(line.id) for line in lines):
        ids = _Ids(labels, first_number=0 if any(_digits(line.id) == "" for line in lines) else 1)
    names: dict[str, str] = {}
    line_of: dict[str, int] = {}
    problems = []
    for line in lines:
        found = ids.find(line.id)
        if not found:
            problems.append(
                f"line {line.number}: expected the id of a class, found {quote(line.id)}; {_say_ids(labels)}"
            )
        elif len(found) > 1:
            fitting = " and ".join(map(quote, found))
            problems.append(f"line {line.number}: {quote(line.id)} fits {fitting}; write the one that is meant in full")
        elif found[0] in line_of:
            first = line_of[found[0]]
            problems.append(
                f"line {line.number}: {quote(found[0])} is named in line {first} already; keep one of the two"
            )
        else:
            line_of[found[0]] = line.number
            names[found[0]] = line.name
    if missing := [quote(label) for label in labels if label not in names]:
        problems.append(f"expected a name for every class, found none for {_list_some(missing)}; add a line for each")
    return names, problems


def _say_ids(labels: list[str]) -> str:
    n = len(labels)
    numbers = "" if any(map(_is_number, labels)) else f", or 0 to {n - 1}, or 1 to {n}"
    return f"the ids are {_list_some([quote(label) for label in labels[:3]], n - 3)}{numbers}"


def _find_name_problems(lines: list[_Line]) -> list[str]:
    """Return what is wrong with the names, by themselves and beside each other."""
    problems, same = [], defaultdict(list)
    for line in lines:
        if fault := find_name_fault(line.name):
            problems.append(f"line {line.number}: the name {fault}; mend it")
        else:
            same[name_key(line.name)].append(line)
    for its_lines in same.values():
        if len(its_lines) > 1:
            names = " and ".join(sorted({quote(line.name) for line in its_lines}))
            numbers = _list_lines([line.number for line in its_lines])
            problems.append(f"{numbers}: expected a name of its own for every class, found {names} again; change one")
    return problems


def _list_lines(numbers: list[int]) -> str:
    return f"{'line' if len(numbers) == 1 else 'lines'} {_list_some([str(number) for number in numbers])}"


def _list_some(words: list[str], n_more: int = 0) -> str:
    """Join the words, the first of them if they are many, and say how many more there are."""
    n_more += len(words[MAX_NUMBERS:])
    return ", ".join(words[:MAX_NUMBERS]) + (f" and {n_more} more" if n_more > 0 else "")
