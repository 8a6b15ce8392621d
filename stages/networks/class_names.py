"""Names to read of the classes, in a file beside the models.

A model knows a class by its folder's name, or by its label in labels.csv. What people call it is in classes.txt, and
may be corrected at any time: only what shows it to people reads this file.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from stages.runtime.errors import UserError

NAMES_FILE = "names.json"


def read_names(path: Path, classes: Sequence[str]) -> list[str]:
    """Return a name for each class: that of the file, or the class itself where there is no file or no name in it.

    Args:
        path: of JSON, {class: name}.
    Raises:
        UserError: the file is another one, or cut short.
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
