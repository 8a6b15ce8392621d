"""Format a table as text lines for a terminal or for Markdown."""

from collections.abc import Mapping, Sequence


def align(columns: Mapping[str, Sequence[str]], n_left: int = 0) -> list[str]:
    """Return the heading and a line per row; the first n_left columns are aligned to the left, others to the right.

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
    """Return the lines of a Markdown table with the same content."""
    rules = ["---" if i < n_left else "---:" for i in range(len(columns))]
    lines = [columns, rules, *zip(*columns.values(), strict=True)]
    return [f"| {' | '.join(map(escape, line))} |" for line in lines]


def escape(text: str) -> str:
    """Escape text so that Markdown shows it unchanged, also in a table."""
    for sign in "\\`*_|[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;")
