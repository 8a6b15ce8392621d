"""dvc.yaml and params.yaml in, the README's two tables out: what an edit of each parameter and module reruns.

    python .ci/rerun_tables.py      (make docs) writes them between the two marks of README.md

Nothing is run: DVC resolves the files, in a folder that holds nothing else. A stage runs when its command, the list of
what it reads, or a parameter that it names has changed, and then so does all that lies below it.

A table is read back, by tests/test_reruns.py, with this grammar:

    row     "| " keys " | " [ "only with `" LEAF ": " VALUE "`: " ] stages " |"
    keys    "`" KEY "`" { ", `" KEY "`" } [ ", to `" VALUE "`" ]      in the table of parameters, KEY is a leaf of
                                                                    params.yaml, or PREFIX.* for all below a prefix
    stages  "nothing" | "`" NAME "`" { ", `" NAME "`" }                a * in a NAME stands for any text

Stages that are named in the head of a table's second column run in each of its rows.
"""

import contextlib
import copy
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fnmatch import filter as matching
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parent.parent
MARKS = ("<!-- reruns: made by make docs -->\n", "<!-- /reruns -->\n")
# Stages whose output is the same whatever their parameters are, so that nothing below them runs for an edit:
# `check` writes that params.yaml is right, or fails.
CONSTANT = {"check"}
# The parameters that name an input's folder, and all that have a pipeline; the tables start from the first of each,
# whatever params.yaml says now.
INPUTS = {
    "images": ["data/flowers/images", "data/oxford102/images"],
    "weights": ["data/weights/drawn", "data/weights/imagenet"],
}

LEGEND = """\
`train@*` are all stages of that name, `evaluate@*_pretrained` those that end so. A stage of an input is named after the
input's folder in `data/`: `flowers:draw` is the stage `draw` of `data/flowers`. It takes part only while `images` or
`weights` names that folder; when they begin to, it runs only if its output is not there yet. A stage whose output comes
out the same ends the chain. Comments and layout rerun nothing.
"""
CODE_LEGEND = """\
These are the stages that list the file. What lies below them runs only if an output changes; no comment does that.
"""


class Stage(NamedTuple):
    """A stage of the resolved pipeline; DVC reruns it when it has become another one."""

    command: str
    params: frozenset[str]  # keys or prefixes of keys; "" is the whole file
    reads: frozenset[str]
    above: frozenset[str]  # the stages whose outputs it reads


class Edit(NamedTuple):
    """What an edit reruns: these stages, with which input alone (leaf, value), and, of a choice, to which value."""

    stages: frozenset[str]
    only_with: tuple[str, str] | None = None
    to: str | None = None


class Reruns(NamedTuple):
    """What runs after an edit of each leaf of params.yaml and of each file of stages/, and all stages there are."""

    by_leaf: dict[str, list[Edit]]
    by_file: dict[str, list[Edit]]
    stages: list[str]  # in the order of the tables


Graph = dict[str, Stage]  # by short name
World = tuple[dict[str, str], Graph]  # a choice of inputs, and the pipeline under it


def dvc_files() -> list[Path]:
    """Return the paths, from the root, of every dvc.yaml."""
    return sorted(path.relative_to(ROOT) for path in [ROOT / "dvc.yaml", *ROOT.glob("data/**/dvc.yaml")])


def leaves(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full key and the value of everything in the block that is no block itself."""
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def edited(params: dict[str, Any], edits: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the parameters with the values of some leaves replaced."""
    params = copy.deepcopy(params)
    for leaf, value in edits.items():
        *parents, last = leaf.split(".")
        block = params
        for parent in parents:
            block = block[parent]
        block[last] = value
    return params


def short_name(address: str) -> str:
    """Return `weights/drawn:draw` for DVC's `data/weights/drawn/dvc.yaml:draw`; a stage of the root has no folder."""
    return address.removeprefix("data/").replace("/dvc.yaml:", ":")


def read_graph(params: dict[str, Any]) -> Graph:
    """Return the stages that `dvc repro` of the root looks at under these parameters, by their short names."""
    from dvc.repo import Repo  # seconds: not needed to read a table
    from dvc.repo.reproduce import plan_repro

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        for path in dvc_files():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes((ROOT / path).read_bytes())
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        (root / ".dvc").mkdir()
        settings = f"[core]\nno_scm = true\nsite_cache_dir = {root}/site\n"
        (root / ".dvc" / "config").write_text(settings, encoding="utf-8")
        with contextlib.chdir(root), Repo() as repo:
            graph = repo.index.graph
            planned = plan_repro(graph, repo.stage.collect("dvc.yaml"))
            return {short_name(each.addressing): describe(each, graph, root) for each in planned}


def describe(stage: Any, graph: Any, root: Path) -> Stage:
    """Return what is asked of a stage of DVC's."""
    named = [dep for dep in stage.deps if hasattr(dep, "params")]
    read = [dep for dep in stage.deps if not hasattr(dep, "params")]
    return Stage(
        command=str(stage.cmd),
        params=frozenset(key for dep in named for key in dep.params or [""]),
        reads=frozenset(Path(dep.fs_path).relative_to(root).as_posix() for dep in read),
        above=frozenset(short_name(each.addressing) for each in graph.successors(stage)),
    )


def covers(stage: Stage, leaf: str) -> bool:
    return "params.yaml" in stage.reads or any(not key or f"{leaf}.".startswith(f"{key}.") for key in stage.params)


def below(graph: Graph, first: Iterable[str]) -> frozenset[str]:
    """Return the stages and all that lies below them; below a constant one lies nothing."""
    found: set[str] = set()
    waiting = list(first)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [] if name in CONSTANT else [each for each, stage in graph.items() if name in stage.above]
    return frozenset(found)


def rerun_by_parameter(before: Graph, after: Graph, leaf: str) -> frozenset[str]:
    """Return what an edit of the leaf runs that turns one graph into the other, of other inputs or the same one."""
    return below(after, (name for name, each in after.items() if covers(each, leaf) or each != before.get(name)))


def edits_of(leaf: str, worlds: list[World]) -> list[Edit]:
    """Return what an edit of the leaf reruns: one entry, or one for each other input that it can name.

    Raises:
        ValueError: that depends on the inputs in a way that a row of the table cannot say.
    """
    inputs, present = worlds[0]
    if leaf in INPUTS:
        others = [(each[leaf], graph) for each, graph in worlds[1:] if each == {**inputs, leaf: each[leaf]}]
        return [Edit(rerun_by_parameter(present, graph, leaf), to=value) for value, graph in others]
    found = [rerun_by_parameter(graph, graph, leaf) for _, graph in worlds]
    least, most = min(found, key=len), max(found, key=len)
    if least == most:
        return [Edit(most)]
    for name, value in ((name, value) for name, values in INPUTS.items() for value in values):
        if least <= CONSTANT and found == [most if each[name] == value else least for each, _ in worlds]:
            return [Edit(most, only_with=(name, value))]
    raise ValueError(f"{leaf}: what it reruns depends on more than one input; the table has no words for that")


def code_files() -> list[str]:
    """Return the paths, from stages/, of every module and of the data files beside them."""
    files = [path for path in (ROOT / "stages").rglob("*.*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.relative_to(ROOT / "stages").as_posix() for path in files)


@cache
def compute() -> Reruns:
    """Resolve the pipeline under each choice of inputs, and return what every edit reruns."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    chosen = [dict(zip(INPUTS, values, strict=True)) for values in product(*INPUTS.values())]
    worlds = [(inputs, read_graph(edited(params, inputs))) for inputs in chosen]
    stages = {name: each for _, graph in worlds for name, each in graph.items()}
    readers = {file: [name for name, each in stages.items() if f"stages/{file}" in each.reads] for file in code_files()}
    return Reruns(
        by_leaf={leaf: edits_of(leaf, worlds) for leaf, _ in leaves(params)},
        by_file={file: [Edit(frozenset(names))] for file, names in readers.items()},
        # those of inputs first, as they run; else in DVC's order
        stages=sorted(stages, key=lambda name: (name not in CONSTANT, ":" not in name)),
    )


def write_names(stages: frozenset[str], known: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in shorten_names(stages, known)) or "nothing"


def shorten_names(stages: frozenset[str], known: list[str]) -> list[str]:
    """Return the names, with one `train@*` for all of a matrix, one `evaluate@*_pretrained` for all that end so."""
    found = {}
    for name in (name for name in known if name in stages):
        family, at, item = name.partition("@")
        patterns = [f"{family}@*", f"{family}@*_{item.rpartition('_')[2]}"] if at else []
        fitting = [each for each in patterns if len(kin := matching(known, each)) > 1 and stages.issuperset(kin)]
        found[(fitting or [name])[0]] = None
    return list(found)


def shorten_keys(keys: list[str], all_keys: Iterable[str]) -> list[str]:
    """Return the leaves, with one `prefix.*` for all leaves below a prefix where they are all there."""
    others = set(all_keys) - set(keys)
    patterns = {}
    for key in keys:
        prefixes = [key[: dot.end()] for dot in re.finditer(r"\.", key)]
        whole = [prefix for prefix in prefixes if not any(each.startswith(prefix) for each in others)]
        patterns[f"{whole[0]}*" if whole else key] = None
    return list(patterns)


def write_table(title: str, edits: dict[str, list[Edit]], known: list[str], shorten: Callable = shorten_keys) -> str:
    """Write the rows, those of the same outcome as one, in the order of their first keys."""
    rows: dict[Edit, list[str]] = {}
    for key, found in edits.items():
        for edit in found:
            rows.setdefault(edit, []).append(key)
    always = CONSTANT.intersection(*(edit.stages for edit in rows))
    lines = [f"| {title} | runs {write_names(always, known)}, and |" if always else f"| {title} | runs |", "|---|---|"]
    for edit, keys in sorted(rows.items(), key=lambda row: row[0].stages == always):  # what reruns nothing comes last
        written = ", ".join(f"`{key}`" for key in shorten(keys, edits)) + (f", to `{edit.to}`" if edit.to else "")
        condition = "only with `{}: {}`: ".format(*edit.only_with) if edit.only_with else ""
        lines.append(f"| {written} | {condition}{write_names(edit.stages - always, known)} |")
    return "\n".join(lines) + "\n"


def write_block() -> str:
    """Return what stands between the marks of README.md."""
    reruns = compute()
    parameters = write_table("edited in `params.yaml`", reruns.by_leaf, reruns.stages)
    code = write_table("edited in `stages/`", reruns.by_file, reruns.stages, shorten=lambda files, _: files)
    return "\n".join([parameters, LEGEND, code, CODE_LEGEND])


def main() -> None:
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        sys.exit(f"README.md: expected the lines {MARKS[0].strip()} and {MARKS[1].strip()}, around the tables")
    readme.write_text(f"{before}{begin}{write_block()}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
