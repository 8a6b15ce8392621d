"""Describe the code of a script as text. DVC and checkpoints compare the texts, so that only real changes rerun stages.

The text has a line for each module that the script imports, directly or not, for each data file beside those modules,
and for each pinned package. It ignores comments, docstrings and layout. grimp reads the imports without running them.
docs/reruns.md lists what this method cannot see.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from grimp import ImportGraph, build_graph

from stages.runtime.errors import UserError

# packages whose import name differs from their name in requirements.txt
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
UNSAID = {"ctx", "kind", "type_comment"}  # fields of a syntax tree without effect


def describe(module: str) -> str:
    """Return a line for each part of a module's code; the text is the same under every version of Python.

    Args:
        module: its full name, as in `python -m`; requirements.txt is beside its outermost package.
    Raises:
        UserError: the module imports a package that requirements.txt does not pin.
    """
    package = module.partition(".")[0]
    root = Path(find_spec(package).origin).parent.parent
    reached = {module, *read_imports(package).find_upstream_modules(module)}
    modules = {name: _locate(name, root) for name in reached if name.partition(".")[0] == package}
    trees = {name: spell_source(path.read_bytes()) for name, path in modules.items()}
    files = {path.relative_to(root).as_posix(): path for path in find_data_files(modules.values(), root)}
    pins = read_pins((root / "requirements.txt").read_text(encoding="utf-8"))
    packages = reached - modules.keys() - sys.stdlib_module_names
    names = sorted(DISTRIBUTIONS.get(name, name.lower().replace("_", "-")) for name in packages)
    if unpinned := ", ".join(name for name in names if name not in pins):
        remedy = "add it to pyproject.toml, and run `make lock`"
        raise UserError(f"requirements.txt: expected a pinned version of {unpinned}, which {module} imports; {remedy}")
    return "".join(
        [f"module {name} {_digest(tree.encode())}\n" for name, tree in sorted(trees.items()) if tree != "Module()"]
        + [f"file {name} {_digest(path.read_bytes())}\n" for name, path in sorted(files.items())]
        + [f"package {name} {pins[name]}\n" for name in names]
    )


@cache
def read_imports(package: str) -> ImportGraph:
    """Return the imports between the modules of a package and of other packages, also inside functions."""
    graph = build_graph(package, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)
    for name in graph.modules:
        if parent := name.rpartition(".")[0]:
            graph.add_import(importer=name, imported=parent)  # Python runs the package before its module
    return graph


def find_data_files(modules: Iterable[Path], root: Path) -> list[Path]:
    """Return the other files beside the modules; files beside scripts (in an outermost folder) do not count."""
    folders = {path.parent for path in modules if len(path.relative_to(root).parts) > 2}
    beside = (path for folder in folders for path in folder.iterdir() if path.is_file())
    return [path for path in beside if path.suffix not in (".py", ".pyc") and not path.name.startswith(".")]


@cache
def spell_source(source: bytes) -> str:
    """Return a module's syntax tree as text."""
    return spell(ast.parse(source))


def spell(node: object) -> str:
    """Write a syntax tree as text without docstrings; unlike ast.dump, the same under all versions from 3.11."""
    if isinstance(node, list):
        return f"[{', '.join(spell(each) for each in node if not _is_bare_text(each))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(list(_join_texts(node.values)))
    fields = {name: spell(value) for name, value in ast.iter_fields(node) if name not in UNSAID}
    said = (f"{name}={text}" for name, text in fields.items() if text not in ("None", "[]"))
    return f"{type(node).__name__}({', '.join(said)})"


@cache
def read_pins(requirements: str) -> dict[str, str]:
    """Return the version of each distribution; several versions if they depend on Python or the system."""
    pins: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", requirements, re.MULTILINE):
        pins[name] = f"{pins[name]} {version}" if name in pins else version
    return pins


def _locate(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def _is_bare_text(node: object) -> bool:
    """Return whether a node is a docstring: text as a statement, without effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _join_texts(parts: list[ast.expr]) -> Iterator[ast.expr]:
    """Join adjacent texts of an f-string, which some versions of Python keep separate."""
    for is_text, together in groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from together
        elif text := "".join(part.value for part in together):
            yield ast.Constant(text)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:12]
