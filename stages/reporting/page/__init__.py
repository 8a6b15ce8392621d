"""Render results as text with the templates beside this file: the page, its short version, and the model card."""

from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parent


def render(name: str, content: dict[str, Any], folder: Path = FOLDER) -> str:
    """Render the template `name`.j2 with the content; text is escaped in HTML, but not in Markdown.

    Args:
        folder: folder of the template; it may include templates of the report.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, FOLDER]),
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.j2").render(content)
