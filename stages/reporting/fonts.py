"""Fonts for names in any script: figures use fonts of the machine for characters that matplotlib's font lacks."""

import logging
import os
import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from unicodedata import category, east_asian_width, name

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, findSystemFonts, fontManager, get_font, weight_dict
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.text import Text

REGIONS = {"HIRAGANA": "JP", "KATAKANA": "JP", "HANGUL": "KR"}  # forms of Chinese characters beside these scripts
REMEDIES = {  # fonts with many of the missing characters, and their Debian packages; colour fonts cannot be drawn
    "East Asian": ("Noto Sans CJK", "fonts-noto-cjk"),
    "symbols": ("Symbola", "fonts-symbola"),
    "others": ("Noto Sans", "fonts-noto-core"),
}

_said: list[str] = []  # the line that this process already printed


@contextmanager
def complete_fonts(figure: Figure) -> Iterator[None]:
    """While a figure is drawn, use other fonts of this machine for texts with characters that matplotlib's font lacks.

    All other texts stay unchanged: without such characters a figure has the same bytes on every machine. Characters
    that no font has are drawn as boxes, and each process prints one line about them.
    """
    lacking = {text: missing for text in figure.findobj(Text) if (missing := find_missing(text))}
    families, missing = find_families(set().union(*lacking.values()))
    for text in lacking:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    if missing:
        say_missing(missing)
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hide messages about missing font weights
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
            yield
    finally:
        logger.setLevel(level)


def find_missing(text: Text) -> set[str]:
    """Return the visible characters of a text that are missing in its font."""
    font = get_font(findfont(text.get_fontproperties()))
    return {each for each in text.get_text() if not font.get_char_index(ord(each)) and _is_drawn(each)}


def _is_drawn(character: str) -> bool:
    """Return whether a character is visible: not a joiner, variation selector, tag or line end."""
    return category(character) not in ("Cc", "Cf") and "VARIATION SELECTOR" not in name(character, "")


def find_families(characters: Set[str]) -> tuple[list[str], set[str]]:
    """Return installed font families that have these characters, and the characters that no font has."""
    families, missing = _search(characters)
    if missing:  # matplotlib's cached list of fonts lacks newly installed ones
        for path in sorted({*findSystemFonts()} - {entry.fname for entry in fontManager.ttflist}):
            with suppress(Exception):  # one broken font must not matter
                fontManager.addfont(path)
        families, missing = _search(characters)
    return families, missing


def _search(characters: Set[str]) -> tuple[list[str], set[str]]:
    scripts = {name(each, "").partition(" ")[0] for each in characters}
    region = next((region for script, region in REGIONS.items() if script in scripts), "SC")
    families, missing = [], set(characters)
    for entry in sorted(_list_families(), key=lambda entry: _rank(entry.name, region)):
        if not missing:
            break
        font = FT2Font(entry.fname, face_index=entry.index)
        if found := {each for each in missing if _draws(font, each)}:
            families.append(entry.name)
            missing -= found
    return families, missing


def _list_families() -> list[FontEntry]:
    """Return the most regular font of each family; names of hidden families start with a dot."""

    def oddity(entry: FontEntry) -> tuple:
        weight = weight_dict.get(entry.weight, entry.weight)
        return entry.style != "normal", entry.stretch != "normal", abs(weight - 400)

    families: dict[str, FontEntry] = {}
    for entry in sorted(fontManager.ttflist, key=oddity):
        families.setdefault(entry.name, entry)
    return [entry for family, entry in families.items() if not family.startswith((".", "Last Resort"))]


def _rank(family: str, region: str) -> tuple:
    is_noto = family.startswith("Noto Sans")
    return not is_noto, not family.endswith(f" {region}"), "Mono" in family, "Serif" in family, family


def _draws(font: FT2Font, character: str) -> bool:
    """Return whether a font has an outline for a character; colour fonts have no outlines."""
    code = ord(character)
    is_blank = category(character).startswith("Z")
    return bool(font.get_char_index(code)) and (is_blank or font.load_char(code, LoadFlags.NO_HINTING).width > 0)


def say_missing(characters: Set[str]) -> None:
    """Print once which fonts to install, and how to draw the figures again, because DVC does not see fonts."""
    if _said:
        return
    shown = " ".join(sorted(characters)[:8]) + (f" and {len(characters) - 8} more" if len(characters) > 8 else "")
    kinds = set(map(_kind_of, characters))
    fonts, packages = zip(*(remedy for kind, remedy in REMEDIES.items() if kind in kinds), strict=True)
    stage = os.environ.get("DVC_STAGE")
    line = (
        f"figures: no installed font has {shown}, so names show boxes; install a font that has these characters, for "
        f"example {', '.join(fonts)} (Debian: {' '.join(packages)}), and run "
        f"{f'`dvc repro --force --single-item {stage}`' if stage else 'the command again'}"
    )
    _said.append(line)
    print(line, flush=True)


def _kind_of(character: str) -> str:
    if category(character) in ("So", "Sk"):
        return "symbols"
    return "East Asian" if east_asian_width(character) in "WF" else "others"
