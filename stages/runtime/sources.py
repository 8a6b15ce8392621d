"""What a script is made of, as text: DVC and checkpoints compare it, so that reruns follow the meaning of the code.

A line for each module that it imports, directly or not, for each data file beside them, and for each package's pin.
Comments, docstrings and layout do not show. Imports are read, not run: docs/reruns.md says what that cannot see.
"""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path

from stages.runtime.errors import UserError

# the packages whose name in an import is another one than in requirements.txt
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
UNSAID = {"ctx", "kind", "type_comment"}  # fields of a syntax tree that say nothing about what it does


def describe(module: str, root: Path = Path()) -> str:
    """Return what a module is made of, one line each; the same under every version of Python.

    Args:
        module: its full name, as in `python -m`.
        root: the folder of its outermost package, and of requirements.txt.
    Raises:
        UserError: it imports a package that requirements.txt does not pin.
    """
    modules, packages = follow_imports(module, root)
    trees = {name: read_module(path.read_bytes())[0] for name, path in modules.items()}
    files = {path.relative_to(root).as_posix(): path for path in find_data_files(modules, root)}
    pins = read_pins((root / "requirements.txt").read_text(encoding="utf-8"))
    names = sorted(DISTRIBUTIONS.get(package, package.lower().replace("_", "-")) for package in packages)
    if unpinned := ", ".join(name for name in names if name not in pins):
        remedy = "add it to pyproject.toml, and run `make lock`"
        raise UserError(f"requirements.txt: no pin of {unpinned}, which {module} imports; {remedy}")
    return "".join(
        [f"module {name} {_digest(tree.encode())}\n" for name, tree in sorted(trees.items()) if tree != "Module()"]
        + [f"file {name} {_digest(path.read_bytes())}\n" for name, path in sorted(files.items())]
        + [f"package {name} {pins[name]}\n" for name in names]
    )


def follow_imports(module: str, root: Path) -> tuple[dict[str, Path], set[str]]:
    """Return the files of all modules under root that an import reaches, by full name, and the packages of others."""
    modules: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = [module]
    while waiting:
        # a, a.b, a.b.c: Python runs each that is a module; the last may be a mere name in it
        steps = list(accumulate(waiting.pop().split("."), "{}.{}".format))
        found = {step: path for step in steps if (path := _locate(step, root))}
        for step in found.keys() - modules.keys():
            modules[step] = path = found[step]
            package = step if path.name == "__init__.py" else step.rpartition(".")[0]
            waiting += [resolve_name(name, package) for name in read_module(path.read_bytes())[1]]
        if not found and steps[0] not in sys.stdlib_module_names:
            packages.add(steps[0])
    return modules, packages


def find_data_files(modules: dict[str, Path], root: Path) -> list[Path]:
    """Return the files beside the modules that are none; beside scripts, in an outermost folder, nothing counts."""
    folders = {path.parent for path in modules.values() if len(path.relative_to(root).parts) > 2}
    beside = (path for folder in folders for path in folder.iterdir() if path.is_file())
    return [path for path in beside if path.suffix not in (".py", ".pyc") and not path.name.startswith(".")]


@cache
def read_module(source: bytes) -> tuple[str, list[str]]:
    """Return a module's syntax tree as text, and the full names of what it imports (relative ones with their dots)."""
    tree = ast.parse(source)
    return spell(tree), list(find_imports(tree))


def spell(node: object) -> str:
    """Write a syntax tree without docstrings; unlike ast.dump, in the same words under Python 3.11 and later."""
    if isinstance(node, list):
        return f"[{', '.join(spell(each) for each in node if not _is_bare_text(each))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(list(_join_texts(node.values)))
    fields = {name: spell(value) for name, value in ast.iter_fields(node) if name not in UNSAID}
    said = (f"{name}={text}" for name, text in fields.items() if text not in ("None", "[]"))
    return f"{type(node).__name__}({', '.join(said)})"


def find_imports(node: ast.AST) -> Iterator[str]:
    """Yield the full names of all that is imported below a node, also inside functions, but not for a type checker."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = "." * node.level + (f"{node.module}." if node.module else "")
        yield from (origin + alias.name for alias in node.names)
    only_for_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for child in node.orelse if only_for_types else ast.iter_child_nodes(node):
        yield from find_imports(child)


@cache
def read_pins(requirements: str) -> dict[str, str]:
    """Return each distribution's version, or its versions, where they differ from one Python or system to another."""
    pins: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", requirements, re.MULTILINE):
        pins[name] = f"{pins[name]} {version}" if name in pins else version
    return pins


def _locate(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((each for each in (path / "__init__.py", path.with_name(f"{path.name}.py")) if each.is_file()), None)


def _is_bare_text(node: object) -> bool:
    """Tell a docstring: text as a statement, which does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _join_texts(parts: list[ast.expr]) -> Iterator[ast.expr]:
    """Join neighbouring texts of an f-string, which some versions of Python keep apart."""
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text += part.value
            continue
        if text:
            yield ast.Constant(text)
        text = ""
        yield part
    if text:
        yield ast.Constant(text)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:12]
