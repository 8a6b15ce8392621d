"""A table as lines of text for a terminal, or for Markdown."""

from collections.abc import Mapping, Sequence


def align(columns: Mapping[str, Sequence[str]], n_left: int = 0) -> list[str]:
    """Return the heading and a line for each row, cells to the right but for those of the first n_left columns.

    Args:
        columns: {heading: cells}.
    """
    widths = [max(map(len, [head, *cells])) for head, cells in columns.items()]
    sides = [str.ljust if i < n_left else str.rjust for i in range(len(columns))]
    lines = [columns, *zip(*columns.values(), strict=True)]
    return [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, line, widths, strict=True)).rstrip()
        for line in lines
    ]


def write_markdown(columns: Mapping[str, Sequence[str]], n_left: int = 0) -> list[str]:
    """Return the same as the lines of a table in Markdown."""
    rules = ["---" if i < n_left else "---:" for i in range(len(columns))]
    lines = [columns, rules, *zip(*columns.values(), strict=True)]
    return [f"| {' | '.join(map(escape, line))} |" for line in lines]


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, also in a table."""
    for sign in "\\`*_|[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;")
