"""Name and sort the classes of an image folder.

A class has the name of its folder, or its label in labels.csv. A file classes.txt may give readable names, one a line:

    001,Water lily
    rose,Dog rose, or briar

The class folder (or label) is before the first comma, the name after it. Both may be quoted as in CSV; a folder name
with a comma must be quoted. Every class needs a line; lines for other classes are ignored.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from stages.dataset.label_table import read_text, refuse_lines
from stages.dataset.rejections import UNPRINTABLE

NAMES_FILE = "classes.txt"
QUOTED = r'"(?:[^"]|"")+"'
LINE = re.compile(rf'\s*({QUOTED}|[^",][^,]*?)\s*,\s*(\S.*?)\s*')


def spell(name: str) -> str:
    """Return a name with composed accents (as on Windows and Linux), without spaces around it."""
    return unicodedata.normalize("NFC", " ".join(name.split()))


def fold(name: str) -> str:
    """Return a key that is equal for names that differ only in case, spaces and the spelling of accents.

    Characters that nobody sees do not matter either (byte order marks, spaces of no width), nor do the leading zeros
    of a number, which spreadsheets remove.
    """
    key = spell("".join(each for each in spell(name).casefold() if unicodedata.category(each) != "Cf"))
    return key.lstrip("0") or "0" if key.isascii() and key.isdigit() else key


def unquote(text: str) -> str:
    """Return the text of a CSV cell, with or without quotes."""
    return text[1:-1].replace('""', '"') if re.fullmatch(QUOTED, text) else text


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that `fold` makes equal."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[fold(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the distinct labels in label order: by code point, or by value if all are numbers."""
    ordered = sorted(set(labels))
    if all(label.isascii() and label.isdigit() for label in ordered):
        ordered.sort(key=int)
    return ordered


def name_classes(folder: Path, labels: Iterable[str]) -> dict[str, str]:
    """Return a name for each label, in label order: from classes.txt if it exists, otherwise the label itself.

    Raises:
        UserError: classes.txt does not name every class exactly once; one line per problem.
    """
    ordered = sort_labels(labels)
    path = folder / NAMES_FILE
    if not path.is_file():
        return {label: label for label in ordered}
    names: dict[str, str] = {}
    problems = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        label, name = map(unquote, match.groups()) if (match := LINE.fullmatch(line)) else ("", "")
        if name in ("", '""'):
            problems.append(f"line {number}: expected `class folder,name`, found {line!r}; correct the line")
        elif UNPRINTABLE.search(name):
            problems.append(
                f"line {number}: expected a name without control characters, found {name!r}; retype the name"
            )
        elif names.setdefault(label, name) != name:
            problems.append(
                f"line {number}: {label} already has the name {names[label]!r} above; delete one of the two lines"
            )
    by_spelling = {spell(label): name for label, name in names.items()}
    found = {label: names.get(label, by_spelling.get(spell(label))) for label in ordered}
    if missing := ", ".join(label for label, name in found.items() if name is None):
        problems.append(
            f"expected a line `class folder,name` for every class, found no line for {missing}; add the missing lines"
        )
    named = {label: name or label for label, name in found.items()}
    problems += [
        f"expected names that differ by more than case, spaces or accents, found {' and '.join(group)}; change one name"
        for group in find_alike(named.values())
    ]
    refuse_lines(path, problems)
    return named
