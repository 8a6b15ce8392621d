"""Architectures, one file each, with `Arguments` (the keys of a model's block) and `build_model`; this file finds them.

An architecture is imported only through its name in the parameters, so that an edit reruns only its own models.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType


def list_architectures() -> list[str]:
    """Return the names of the files beside this one, without parts of architectures (a leading underscore)."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def load_architecture(name: str) -> ModuleType:
    """Import an architecture's file.

    Returns:
        A module with the pydantic model `Arguments`, which may have `check(image_size_px)`, and with
        `build_model(n_classes, image_size_px, **arguments)`; it may have `normalisation(**arguments)`.
    """
    return import_module(f"{__name__}.{name}")
