"""Names in any script in figures: a font that has the characters, or a message; other figures stay unchanged."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from stages.reporting import fonts as machine
from stages.reporting.confusion_figure import draw_confusion
from stages.reporting.dataset_figures import draw_class_counts, draw_samples
from stages.reporting.figures import break_lines, count_columns, shorten
from stages.scoring.confusion import confusion_frame

PLAIN, FOREIGN = ["daisy", "Ångström"], ["玫瑰", "गुलाब"]


@pytest.fixture(autouse=True)
def fonts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of installed fonts, at first only those of matplotlib; warnings are errors."""
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(machine, "_said", [])
    installed: list[str] = []
    monkeypatch.setattr(machine, "findSystemFonts", lambda: installed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield installed


def make_font(path: Path, characters: str, *, inked: bool = True) -> str:
    """Write a font in which each of these is a black square, or has no outline, as in a colour font."""
    pen, glyphs = TTGlyphPen(None), {".notdef": TTGlyphPen(None).glyph()}
    for place in ((100, 0), (100, 700), (800, 700), (800, 0)) if inked else ():
        (pen.lineTo if pen.points else pen.moveTo)(place)
    if inked:
        pen.closePath()
    square = pen.glyph()
    glyphs |= {f"u{ord(each):X}": square for each in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(each): f"u{ord(each):X}" for each in characters})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def draw_all(folder: Path, names: list[str]) -> list[bytes]:
    """Draw the figures that show names of classes."""
    labels = np.arange(len(names))
    counts = pd.DataFrame({"class": names, "train": 5, "val": 2, "test": 2, "total": 9})
    draw_class_counts(counts, folder / "counts.png")
    draw_samples([np.zeros((8, 8, 3), np.uint8)] * len(names), names, folder / "samples.png")
    draw_confusion(confusion_frame(labels, labels, names), "cnn", folder / "confusion.png")
    return [(folder / f"{name}.png").read_bytes() for name in ("counts", "samples", "confusion")]


def test_figures_of_other_names_are_the_same_whatever_fonts_there_are(tmp_path, fonts):
    before = draw_all(tmp_path, PLAIN)
    fonts.append(make_font(tmp_path / "Noto Sans Zero.ttf", "".join(PLAIN + FOREIGN)))
    assert draw_all(tmp_path, PLAIN) == before


def test_names_are_drawn_by_fonts_that_have_them_also_by_such_as_matplotlib_has_not_listed(tmp_path, fonts, capsys):
    with_boxes = draw_all(tmp_path, FOREIGN)
    capsys.readouterr()
    fonts.append(make_font(tmp_path / "Blank.ttf", "".join(FOREIGN), inked=False))
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    fonts.append(str(tmp_path / "Broken.ttf"))
    fonts += [make_font(tmp_path / f"Half {number}.ttf", its) for number, its in enumerate(FOREIGN)]
    drawn = draw_all(tmp_path, FOREIGN)
    assert all(one != other for one, other in zip(with_boxes, drawn, strict=True))
    assert capsys.readouterr().out == ""


def test_what_no_font_has_is_said_in_one_line_that_names_what_to_install(tmp_path, capsys):
    draw_all(tmp_path, [*FOREIGN, "🦄", "❤\ufe0f"])
    (line,) = capsys.readouterr().out.splitlines()
    for word in ("玫", "fonts-noto-cjk", "fonts-noto-core", "fonts-symbola"):
        assert word in line
    assert "\ufe0f" not in line


@pytest.mark.parametrize(
    ("name", "shown", "lines"),
    [
        ("a" * 28, "a" * 28, ["a" * 20, "a" * 8]),
        ("a" * 29, "a" * 27 + "…", ["a" * 20, "a" * 9]),
        ("玫" * 14, "玫" * 14, ["玫" * 10, "玫" * 4]),
        ("玫" * 15, "玫" * 13 + "…", ["玫" * 10, "玫" * 5]),
    ],
)
def test_a_wide_character_takes_the_room_of_two(name, shown, lines):
    assert shorten(name, 28) == shown
    assert count_columns(shown) <= 28
    assert break_lines(name, 20).split("\n") == lines
