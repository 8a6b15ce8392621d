"""A comparison of two revisions as text, as Markdown and as a page."""

import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from stages.experiments.comparison.sentences import N_CLASSES, SURE, describe, spell_p
from stages.experiments.text_table import align, escape, write_markdown
from stages.reporting.page import render
from stages.reporting.pictures import thumbnail_sizes

FOLDER = Path(__file__).parent
WIDTH = 110  # columns of a line in the terminal


def render_text(content: dict[str, Any]) -> str:
    """Return the comparison for a terminal.

    Args:
        content: what `compare` prints as JSON.
    """
    said = change_each(partial(textwrap.fill, width=WIDTH), describe(content))
    blocks = [[said["heading"], said["overlap"]], [said["verdict"]]]
    if content["rows"]:
        notes = [said[name] for name in ("star", "power", "seeds") if said[name]]
        blocks.append([*align(tabulate_models(content), n_left=1), *notes])
    blocks += [said["models"], [said["changed"]]]
    if content["classes"]:
        blocks.append([*align(tabulate_classes(content), n_left=1), *said["more"]])
        blocks.append(["The most confident changes:", *(f"  {each}" for each in map(describe_card, content["surest"]))])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def change_each(change: Callable[[str], str], said: dict[str, Any]) -> dict[str, Any]:
    """Apply a function to each sentence."""
    return {key: change(text) if isinstance(text, str) else list(map(change, text)) for key, text in said.items()}


def render_markdown(content: dict[str, Any]) -> str:
    """Return the comparison for a comment on a pull request, without names of pictures."""
    said = change_each(escape, describe(content))
    blocks = [[f"### {said['heading']}"], [said["overlap"], said["verdict"]]]
    if content["rows"]:
        blocks += [write_markdown(tabulate_models(content), n_left=1)]
        blocks += [[said[name] for name in ("star", "power", "seeds") if said[name]]]
    blocks += [said["models"], [said["changed"]]]
    if content["classes"]:
        blocks += [write_markdown(tabulate_classes(content), n_left=1), said["more"]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def render_page(content: dict[str, Any], shown: list[dict[str, Any]], size_px: int) -> str:
    """Return a self-contained page.

    Args:
        shown: the changed pictures, as from `describe_changed`, each with `picture`; the most confident first.
        size_px: side of the pictures.
    """
    by_class: dict[str, list[dict[str, Any]]] = {each["name"]: [] for each in content["classes"]}
    for card in shown:
        by_class[card["actual"]].append(card)
    table = tabulate_models(content)
    values = {
        "content": content,
        "said": describe(content),
        "headings": list(table),
        "rows": list(zip(*table.values(), strict=True)),
        "shown": shown,
        "by_class": by_class,
        "thumbnails": thumbnail_sizes(size_px),
    }
    return render("compare.html", values, FOLDER)


def tabulate_models(content: dict[str, Any]) -> dict[str, list[str]]:
    """Return the cells of the table of models by heading; a star marks what the corrected test finds."""
    cells = {
        "model": lambda row: row["model"],
        "before": lambda row: f"{row['accuracy_before']:.4f}",
        "after": lambda row: f"{row['accuracy_after']:.4f}",
        "points": lambda row: f"{100 * row['accuracy_difference']:+.1f}",
        "95 % interval": lambda row: f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
        "± of seeds": lambda row: f"{100 * row['seed_deviation']:.1f}",
        "mid-p": lambda row: spell_p(row["mid_p"]),
        "Holm": lambda row: spell_p(row["holm_p"]) + ("*" if row["holm_p"] < SURE else " "),
        "loss": lambda row: f"{row['loss_difference']:+.3f}",
        "interval of loss": lambda row: f"{row['loss_low']:+.3f} to {row['loss_high']:+.3f}",
    }
    if not content["seeds"]:
        del cells["± of seeds"]
    return {heading: [spell(row) for row in content["rows"]] for heading, spell in cells.items()}


def tabulate_classes(content: dict[str, Any]) -> dict[str, list[str]]:
    """Return the cells of the table of classes by heading: the classes that lost or gained most."""
    keys = {"class": "name", "pictures": "n_images", "now right": "gained", "now wrong": "lost"}
    keys |= {"still wrong": "other"}
    return {heading: [str(each[key]) for each in content["classes"][:N_CLASSES]] for heading, key in keys.items()}


def describe_card(card: dict[str, Any]) -> str:
    """Return both answers for a picture."""
    answers = " -> ".join(f"{each['answer']} {each['probability']:.2f}" for each in card["said"])
    return f"{card['path']} ({card['actual']}): {answers}"
