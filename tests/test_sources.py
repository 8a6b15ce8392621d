"""The text that describes the code of a script changes with the meaning of the code, and with nothing else."""

import ast
from pathlib import Path

import pytest

from stages.code import write_descriptions
from stages.runtime import sources
from stages.runtime.errors import UserError
from tests.repository import ROOT

FILES = {
    "requirements.txt": (
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "numpy==2.5.5 ; python_full_version >= '3.12'\npillow==13.0.0\njinja2==3.1.6\nunused==1.0\n"
    ),
    "kit/__init__.py": '"""All there is."""\n',
    "kit/train.py": '"""Train."""\nimport os\n\nfrom kit.learning import loop\n\nloop.run()\n',
    "kit/report.py": "import jinja2\nfrom .scores.table import write\n",
    "kit/learning/__init__.py": "",
    "kit/learning/loop.py": '''
import numpy as np

def run(epochs=3):
    """Run."""
    from PIL import Image  # only here

    return Image, np, f"{epochs} epochs"
''',
    "kit/learning/rates.csv": "0.1\n",
    "kit/scores/__init__.py": "from kit.scores.digits import DIGITS\n",
    "kit/scores/digits.py": "DIGITS = 3\n",
    "kit/scores/table.py": "def write(): pass\n",
    "kit/scores/__pycache__/table.pyc": "",
    "kit/notes.txt": "beside scripts\n",
}
PYTHON = r'''
"""Doc."""
from __future__ import annotations
@decorate
async def f(a, /, b: int = 1, *args, c, d=None, **kw) -> None:
    "Doc."
    async with a as b, c:
        return [i async for i in j if k], {**a, 1: None}, a[1:, ::2, ...], 1e400, -1j, b"\xff", u"k", "\U0001fae8"
class A(B, metaclass=C):
    """Doc."""
    x: int
    y: str = f"" "a" f"b{x!r:>{y}}" 'c' f"{{" f"{x=}" f"{y = :}" rf"\d{x:%Y{y}-{z}x}" f"{f'{x}' 'y'}\N{BULLET}"
match x:
    case {"a": 1, **rest}: pass
    case [1, *_, None] | A(b=2): pass
try: a
except* E as e: raise F from e
lambda *a, b=1: (yield)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        write(tmp_path / name, text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def describe(module: str) -> list[str]:
    """Return the lines that describe a module with the current files."""
    sources.read_imports.cache_clear()
    return sources.describe(module).splitlines()


def names(module: str) -> list[str]:
    """Return the lines without their hashes and versions."""
    return [line.rpartition(" ")[0] for line in describe(module)]


def changed_by_edit(path: Path, old: str, new: str) -> list[str]:
    """Return the names of the lines for train.py and report.py that an edit of a file changes."""
    before = describe("kit.train") + describe("kit.report")
    text = path.read_text(encoding="utf-8")
    assert old in text
    write(path, text.replace(old, new))
    return [line.split()[1] for line in describe("kit.train") + describe("kit.report") if line not in before]


@pytest.mark.usefixtures("project")
def test_a_script_is_made_of_all_that_it_imports_directly_or_not():
    # kit.learning is an empty module; the function's own import counts
    lines = ["module kit.learning.loop", "module kit.train", "file kit/learning/rates.csv"]
    assert names("kit.train") == [*lines, "package numpy 2.4.6", "package pillow"]
    # a package on the way is run, and counts
    modules = ["report", "scores", "scores.digits", "scores.table"]
    assert names("kit.report") == [*(f"module kit.{name}" for name in modules), "package jinja2"]


def test_an_import_for_type_checkers_does_not_count(project: Path):
    imports = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import kit.report\nelse:\n    import kit.scores\n"
    )
    write(project / "kit/typed.py", imports)
    assert names("kit.typed") == ["module kit.scores", "module kit.scores.digits", "module kit.typed"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import numpy as np\n", "import numpy as np  # a comment\n\n\n"),
        ('"""Run."""', '"""Run, whatever happens."""'),
        ("def run(epochs=3):", "def run(\n    epochs = (3),\n):"),
        ('f"{epochs} epochs"', 'f"{epochs}" f" epochs"'),
    ],
    ids=["comment", "docstring", "layout", "strings"],
)
def test_what_does_nothing_does_not_show(project: Path, old: str, new: str):
    assert changed_by_edit(project / "kit/learning/loop.py", old, new) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("kit/learning/loop.py", "epochs=3", "epochs=4", ["kit.learning.loop"]),
        ("kit/learning/rates.csv", "0.1", "0.2", ["kit/learning/rates.csv"]),
        ("requirements.txt", "jinja2==3.1.6", "jinja2==3.2", ["jinja2"]),
        ("requirements.txt", "numpy==2.5.5", "numpy==2.6.0", ["numpy"]),  # the pin for another version of Python
        ("requirements.txt", "unused==1.0", "unused==1.1", []),
        ("kit/notes.txt", "beside", "below", []),
    ],
)
def test_an_edit_shows_where_what_it_changes_is_imported(project: Path, file: str, old: str, new: str, changed: list):
    assert changed_by_edit(project / file, old, new) == changed


def test_a_package_without_a_pin_is_refused(project: Path):
    write(project / "requirements.txt", "numpy==2.4.6\n")
    with pytest.raises(UserError, match="jinja2"):
        describe("kit.report")


def test_a_hash_is_the_same_under_every_version_of_python(project: Path):
    # recorded once with 3.11, 3.12 and 3.13; syntax that these versions parse differently
    write(project / "kit/syntax.py", PYTHON)
    assert describe("kit.syntax") == ["module kit.syntax 8d295b15281d"]


def test_trees_that_do_other_things_are_spelt_differently():
    texts = ["x = None", "x = 'None'", "x = []", "x: None", "return", "return None", "{**a}", "{None: a}", "f(*a)"]
    texts += ["f(**a)", "f'{a}b'", "f'a{b}'", "f'{a!r}'", "b'a'", "'a' + 'b'", "'ab' + ''"]
    texts += ["def f(a, b=None): 1", "def f(a=None, b=1): 1"]
    assert len({sources.spell(ast.parse(text)) for text in texts}) == len(texts)


def test_the_stage_writes_a_text_for_each_script_and_each_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    write_descriptions(tmp_path)
    sources_of = [*Path("stages").glob("*.py"), *Path("stages/models").glob("*.py")]
    expected = {str(path.relative_to("stages").with_suffix(".txt")) for path in sources_of if path.stem[0] != "_"}
    expected.add("versions.txt")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt")} == expected
    versions = [line.split()[0] for line in (tmp_path / "versions.txt").read_text().splitlines()]
    assert versions == sorted(set(versions))
    assert {"jinja2", "timm", "torch"} <= set(versions)
    assert "pytest" not in versions
