"""Write the tables of docs/reruns.md: what an edit of a parameter, of a file of code, or of a pin reruns.

    python .ci/rerun_tables.py      (make docs) writes them between the two marks of docs/reruns.md

Nothing is run. DVC reads every dvc.yaml and says what each stage lists, which parameters its definition names, and
whose outputs it reads; stages/runtime/sources.py says what each stage's code is made of. Both are as they are now.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from stages.runtime.sources import describe, read_pins  # noqa: E402

DOCS = ROOT / "docs" / "reruns.md"
MARKS = ("<!-- tables: made by make docs -->\n", "<!-- /tables -->\n")
PARAMS = ("params.yaml", "data/flowers/params.yaml", "data/weights/source/params.yaml")
VERSIONS = "versions"  # the text of code that has the pins of all scripts and architectures, and nothing else
CONSTANT = "check"  # the stage whose output is always the same: it stops a mistake, and nothing below it runs


class Stage(NamedTuple):
    """What DVC compares to decide whether a stage has to run."""

    keys: set[tuple[str, str]]  # (file of parameters, key or prefix of keys; an empty one stands for all)
    parts: set[str]  # the lines of its code's texts, without the hash: "module stages.split", "package numpy"
    below: set[str]  # the stages that read its outputs


@cache
def read_stages() -> dict[str, Stage]:
    """Return the stages of every dvc.yaml by their short names, in the order in which they can run, inputs first."""
    from dvc.repo import Repo  # a second
    from networkx import lexicographical_topological_sort

    with chdir(ROOT), Repo() as repo:
        graph = repo.index.graph  # from a stage to those whose outputs it reads
        written = sorted(repo.index.stages, key=lambda stage: (stage.path_in_repo == "dvc.yaml", stage.path_in_repo))
        names = {stage: short_name(stage.addressing) for stage in written}
        order = lexicographical_topological_sort(graph.reverse(), key=written.index)
        readers = {stage: {names[each] for each in graph.predecessors(stage)} for stage in written}
        return {names[stage]: Stage(set(keys_of(stage)), parts_of(stage), readers[stage]) for stage in order}


def short_name(address: str) -> str:
    """Return `weights/source:draw` for DVC's `data/weights/source/dvc.yaml:draw`; a stage of the root has no folder."""
    return address.removeprefix("data/").replace("/dvc.yaml:", ":")


def keys_of(stage: Any) -> Iterator[tuple[str, str]]:
    """Yield the parameters that a stage of DVC's lists, and those that its definition names in `${...}`."""
    for dep in stage.deps:
        if hasattr(dep, "params"):
            yield from ((relative(dep), key) for key in dep.params or [""])
    for file, keys in stage.tracked_vars.items():
        yield from ((file, key) for key in keys)


def parts_of(stage: Any) -> set[str]:
    """Return what the texts of code are made of that a stage of DVC's reads, from data/code/train.txt and the like."""
    texts = [text[1] for dep in stage.deps if (text := re.fullmatch(r"data/code/(.+)\.txt", relative(dep)))]
    parts = {part for text in texts if text != VERSIONS for part in describe_parts(text)}
    if VERSIONS in texts:
        scripts = [path for folder in ("", "models") for path in (ROOT / "stages" / folder).glob("[!_]*.py")]
        names = [path.relative_to(ROOT / "stages").with_suffix("").as_posix() for path in scripts]
        all_parts = {part for name in names for part in describe_parts(name)}
        parts |= {part for part in all_parts if part.startswith("package ")}
    return parts


@cache
def describe_parts(name: str) -> list[str]:
    """Return the lines of a text of code without their hashes and versions."""
    lines = describe(f"stages.{name.replace('/', '.')}").splitlines()
    return [" ".join(line.split()[:2]) for line in lines]


def relative(dep: Any) -> str:
    return Path(dep.fs_path).relative_to(ROOT).as_posix()


def leaves(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full key and the value of everything in the block that is no block itself."""
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def below(first: Iterable[str]) -> frozenset[str]:
    """Return the stages and all that lies below them; below the constant one lies nothing."""
    found: set[str] = set()
    waiting = list(first)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += () if name == CONSTANT else read_stages()[name].below
    return frozenset(found)


def leaves_of(file: str) -> dict[str, Any]:
    return dict(leaves(YAML(typ="safe").load((ROOT / file).read_text(encoding="utf-8"))))


def stages_naming(file: str, leaf: str) -> frozenset[str]:
    """Return the stages that list a parameter, or a prefix of it, or whose definition names it."""
    named = {(file, ""), *((file, leaf[: dot.start()]) for dot in re.finditer(r"\.|$", leaf))}
    return frozenset(name for name, stage in read_stages().items() if stage.keys & named)


def reruns_by_leaf(file: str) -> dict[str, frozenset[str]]:
    """Return what runs after an edit of each leaf of a file of parameters."""
    return {leaf: below(stages_naming(file, leaf)) for leaf in leaves_of(file)}


def reruns_by_part(kind: str, names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return the stages whose code's text changes with each module, file or package of these names."""
    return {
        name: frozenset(each for each, stage in read_stages().items() if f"{kind} {name}" in stage.parts)
        for name in names
    }


def reruns_by_code() -> dict[str, frozenset[str]]:
    """Return the stages whose code's text changes with each file of stages/, which is named from there."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "stages").rglob("*.*") if path.parent.name != "__pycache__"]
    files = sorted(path.as_posix() for path in paths)
    modules = {file: file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files}
    found = reruns_by_part("module", modules.values()) | reruns_by_part("file", files)
    return {file.removeprefix("stages/"): found[modules[file]] | found[file] for file in files}


def reruns_by_pin() -> dict[str, frozenset[str]]:
    """Return the stages whose code's text changes with each pin of requirements.txt."""
    return reruns_by_part("package", read_pins((ROOT / "requirements.txt").read_text(encoding="utf-8")))


def shorten_names(stages: frozenset[str]) -> list[str]:
    """Return the names in the order in which they run, with one `train@*` for all of a family."""
    found = {}
    for name in (name for name in read_stages() if name in stages):
        family = {each for each in read_stages() if "@" in name and each.startswith(f"{name.partition('@')[0]}@")}
        found[f"{name.partition('@')[0]}@*" if len(family) > 1 and family <= stages else name] = None
    return list(found)


def shorten_keys(keys: list[str], others: set[str]) -> list[str]:
    """Return the leaves, with one `prefix.*` for those below a prefix that none of the others lies below."""
    found = {}
    for key in keys:
        prefixes = [key[: dot.end()] for dot in re.finditer(r"\.", key)]
        whole = [prefix for prefix in prefixes if not any(each.startswith(prefix) for each in others)]
        found[f"{whole[0]}*" if whole else key] = None
    return list(found)


def write_table(title: str, always: str, rows: list[tuple[list[str], frozenset[str]]]) -> str:
    """Write rows of keys and of what their edits run; the stage that always runs stands in the head, nothing last."""
    rows = sorted(rows, key=lambda row: row[1] <= {always})
    lines = [f"| {title} | runs `{always}`, and |", "|---|---|"]
    lines += [f"| {_quote(keys)} | {_quote(shorten_names(stages - {always})) or 'nothing'} |" for keys, stages in rows]
    return "\n".join(lines) + "\n"


def group(reruns: dict[str, frozenset[str]]) -> list[tuple[list[str], frozenset[str]]]:
    """Return the keys that rerun the same, with what that is, in the order of their first keys."""
    rows: dict[frozenset[str], list[str]] = {}
    for key, stages in reruns.items():
        rows.setdefault(stages, []).append(key)
    return [(keys, stages) for stages, keys in rows.items()]


def _quote(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def write_tables() -> str:
    """Return what stands between the marks of docs/reruns.md."""
    tables = []
    for file in PARAMS:
        reruns = reruns_by_leaf(file)
        rows = [(shorten_keys(keys, reruns.keys() - set(keys)), stages) for keys, stages in group(reruns)]
        tables.append(write_table(f"parameter in `{file}`", CONSTANT, rows))
    tables.append(write_table("file of `stages/`", "code", group(reruns_by_code())))
    imported = {name: stages for name, stages in reruns_by_pin().items() if stages}
    tables.append(write_table("pin in `requirements.txt`", "code", group(imported)))
    return "\n".join(tables)


def main() -> None:
    before, begin, rest = DOCS.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        sys.exit(f"{DOCS}: expected the lines {MARKS[0].strip()} and {MARKS[1].strip()}, around the tables")
    DOCS.write_text(f"{before}{begin}{write_tables()}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
