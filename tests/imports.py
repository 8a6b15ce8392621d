"""The files of a Python module in, all files of this repository that it imports, directly or not, out."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def imported_files(file: Path) -> set[Path]:
    """Return the repository's own files that `file` needs, itself included, but no empty `__init__.py`."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _direct_imports(current)
    return found


def _direct_imports(file: Path) -> list[Path]:
    modules: list[str] = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    paths = [Path(*module.split(".")).with_suffix(".py") for module in modules if module.startswith("stages.")]
    return [path for path in paths if (ROOT / path).is_file()]
