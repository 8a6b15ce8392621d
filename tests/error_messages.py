"""Print all messages that the code can show to a person who made a mistake.

    python -m tests.error_messages

A message is the text of an exception, of `parser.error` or of a line on standard error. Other texts with one of MARKS
count, too, because lists of mistakes are raised elsewhere. Values are shown as `{expression}`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.repository import ROOT


def read_messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each message in a module."""
    tree = ast.parse(source)
    docs = {ast.get_docstring(each, clean=False) for each in ast.walk(tree) if isinstance(each, HAVE_DOCSTRINGS)}
    found: dict[int, str] = {}
    for node in ast.walk(tree):
        if (isinstance(node, ast.Call) and _shows(node)) or (isinstance(node, ast.Raise) and node.exc):
            found |= {each.lineno: _spell(each) for each in _texts(node)}
        elif isinstance(node, TEXTS) and any(each in _spell(node) for each in MARKS) and _spell(node) not in docs:
            found.setdefault(node.lineno, _spell(node))
    yield from sorted(found.items())


HAVE_DOCSTRINGS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
TEXTS = (ast.JoinedStr, ast.Constant)
MARKS = ("expected ", "; ", "did you mean")


def _shows(call: ast.Call) -> bool:
    return ast.unparse(call.func).endswith("parser.error") or any(
        each.arg == "file" and ast.unparse(each.value) == "sys.stderr" for each in call.keywords
    )


def _texts(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the complete texts below a node, without their parts."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and " " in str(child.value)):
            yield child
        else:
            yield from _texts(child)


def _spell(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_spell, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    return str(node.value)


def main() -> None:
    for path in sorted((ROOT / "stages").rglob("*.py")):
        for number, text in read_messages(path.read_text(encoding="utf-8")):
            print(f"{Path(path).relative_to(ROOT)}:{number}: {' '.join(text.split())}")


if __name__ == "__main__":
    main()
