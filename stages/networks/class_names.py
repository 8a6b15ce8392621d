"""Readable names of the classes, in a file beside the models.

A model knows a class by the name of its folder, or by its label in labels.csv. The readable name is in classes.txt and
may be corrected at any time: only code that shows names to people reads this file.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.errors import UserError

NAMES_FILE = "names.json"


def read_names(path: Path, classes: Sequence[str]) -> list[str]:
    """Return a name for each class: from the file, or the class itself if the file or the name is missing.

    Args:
        path: path of a JSON file, {class: name}.
    Raises:
        UserError: the file has other content, or is truncated.
    """
    if not path.is_file():
        return list(classes)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        names = None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(
            f"{path}: expected JSON with a name for each class, found other or incomplete content; get the file again "
            "(`dvc pull`), run `dvc repro split`, or delete it to show the folder names instead"
        )
    return [names.get(each, each) for each in classes]
