"""The README's tables of reruns against DVC: every parameter and every module is edited, and `dvc repro` is watched.

It is DVC's own reproduction of the real dvc.yaml, in copies whose commands only record that they ran (recording.py).
"""

import gc
import itertools
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, chdir, contextmanager
from fnmatch import filter as matching
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from stages.runtime.process import count_cores
from stages.settings.reading import read_config
from stages.settings.types import Section
from tests import recording
from tests.imports import ROOT

sys.path.insert(0, str(ROOT / ".ci"))
import rerun_tables

INPUTS = rerun_tables.INPUTS
FIRST = {leaf: values[0] for leaf, values in INPUTS.items()}
OTHERS = {leaf: values[-1] for leaf, values in INPUTS.items()}
PARAMS = rerun_tables.edited(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")), FIRST)
LEAVES = dict(rerun_tables.leaves(PARAMS))
OWN = {"images": "mine/images", "weights": "mine/weights"}
OWN_FILES = ("images/rose/1.jpg", "images/tulip/1.jpg", "weights/vgg19.safetensors", "weights/resnet50.safetensors")
NEVER_ALONE = {  # any other value is right only together with another edit
    *("split.train", "split.val", "split.test"),  # the sum is 1
    "models.cnn.padding",  # without padding, 32 px are too few
}
RECORDER = shlex.join([sys.executable, "-S", "-E", recording.__file__])
LONG_AGO_S = 1_000_000_000

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # DVC's own


# ---- the README


class Row(NamedTuple):
    """A row of a table: patterns of keys, and the stages that run, only with one input, or for a choice's new value."""

    keys: list[str]
    to: str | None
    only_with: tuple[str, str] | None
    stages: frozenset[str]


def expand(text: str) -> frozenset[str]:
    """Return the stages that the names between backticks stand for."""
    known = rerun_tables.compute().stages
    found = {name: matching(known, name) for name in re.findall(r"`([^`]+)`", text)}
    assert all(found.values()), f"no such stage: {[name for name, stages in found.items() if not stages]}"
    return frozenset(stage for stages in found.values() for stage in stages)


def block() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = rerun_tables.MARKS
    return text.partition(begin)[2].partition(end)[0]


@cache
def read_table(number: int) -> tuple[frozenset[str], list[Row]]:
    """Return the stages that run in every row, by the table's head, and the rows."""
    table = re.findall(r"(?:^\|.*\n)+", block(), re.MULTILINE)[number]
    (_, head), _, *cells = [re.fullmatch(r"\| ?(.*?) ?\| ?(.*?) ?\|", line).groups() for line in table.splitlines()]
    return expand(head), [read_row(*each) for each in cells]


def read_row(keys: str, stages: str) -> Row:
    keys, _, to = keys.partition(", to ")
    condition = re.match(r"only with `(\w+): ([^`]+)`: ", stages)
    rest = stages[condition.end() :] if condition else stages
    found = expand(rest)
    assert found or rest == "nothing", rest
    return Row(re.findall(r"`([^`]+)`", keys), to.strip("`") or None, condition and condition.groups(), found)


def rows_of(rows: list[Row], key: str) -> list[Row]:
    """Return the rows with a pattern that the key matches: the key itself, or `prefix.*`."""
    return [row for row in rows if any(is_match(pattern, key) for pattern in row.keys)]


def is_match(pattern: str, key: str) -> bool:
    return pattern == key or (pattern.endswith(".*") and key.startswith(pattern[:-1]))


def expected_stages(leaf: str, inputs: dict[str, str], to: str | None = None) -> frozenset[str]:
    """Return what an edit of the leaf runs by the README, while `images` and `weights` are these inputs."""
    always, rows = read_table(0)
    (row,) = [row for row in rows_of(rows, leaf) if row.to == to]
    return always | (row.stages if not row.only_with or row.only_with in inputs.items() else frozenset())


def expected_readers(file: str, inputs: dict[str, str]) -> frozenset[str]:
    """Return what an edit of a file of stages/ runs by the README: a stage of an input only while that is chosen."""
    always, rows = read_table(1)
    (row,) = rows_of(rows, file)
    homes = {stage: stage.rpartition(":")[0] for stage in always | row.stages}
    chosen = [f"{value}/" for value in inputs.values()]
    return frozenset(
        stage for stage, home in homes.items() if not home or any(each.startswith(f"data/{home}/") for each in chosen)
    )


# ---- the copies


class Copy:
    """A folder with the pipeline as it is, but for its commands, and DVC to rerun it; everything has run once.

    Nothing is ever undone: an edit starts from where the last one and its rerun ended. Without code, DVC is twice as
    fast: a stage's list is then its data alone, and a parameter's way is the same.
    """

    def __init__(self, folder: Path, with_code: bool):
        self.folder = folder
        self.params = PARAMS
        for path in rerun_tables.dvc_files():
            pipeline = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
            for name, stage in pipeline["stages"].items():
                stage["cmd"] = recorded_command(name, stage)
                stage["deps"] = [dep for dep in stage.get("deps", []) if with_code or not is_code(dep)]
            pipeline.pop("plots", None)
            self.write(path.as_posix(), json.dumps(pipeline))
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        for name in OWN_FILES:
            self.write(f"mine/{name}", name)
        self.write(".dvc/config", f"[core]\nno_scm = true\nanalytics = false\nsite_cache_dir = {folder}/site\n")
        self.edit({})
        self.repro()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def edit(self, edits: dict[str, Any]) -> None:
        """Edit parameters."""
        self.params = rerun_tables.edited(self.params, edits)
        write_params(self.folder, self.params)

    def repro(self) -> frozenset[str]:
        """Run what `dvc repro` runs; return the short names of the stages that ran."""
        from dvc.repo import Repo

        self.write(recording.LOG, "")
        with chdir(self.folder), Repo() as repo:
            repo.reproduce(run_cache=False)  # else a stage whose results are remembered is not run
        return read_log(self.folder)

    def start_from(self, inputs: dict[str, str]) -> None:
        """Choose inputs, and rerun whatever that takes."""
        if any(self.params[leaf] != value for leaf, value in inputs.items()):
            self.edit(inputs)
            self.repro()


def read_log(folder: Path) -> frozenset[str]:
    """Return the short names of the stages that the recorder noted."""
    ran = (folder / recording.LOG).read_text(encoding="utf-8").splitlines()
    assert len(ran) == len(set(ran)), f"ran twice: {ran}"
    return frozenset(map(rerun_tables.short_name, ran))


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """Write params.yaml, as JSON, which is YAML too, and the values once more as the recorder reads them."""
    (folder / "params.yaml").write_text(json.dumps(params), encoding="utf-8")
    lines = [f"{leaf} {json.dumps(value)}\n" for leaf, value in rerun_tables.leaves(params)]
    (folder / recording.VALUES).write_text("".join(lines), encoding="utf-8")


def recorded_command(name: str, stage: dict[str, Any]) -> str:
    """Return the recorder's command for a stage; the stage's own follows as a comment, so that DVC sees it change."""
    data = [dep for dep in stage.get("deps", []) if not is_code(dep)]
    keys = [key for each in stage.get("params", []) for key in read_keys(each)]
    outs = stage.get("outs", []) + stage.get("metrics", [])
    outputs = [each if isinstance(each, str) else next(iter(each)) for each in outs]
    made_of = ["--"] if name in rerun_tables.CONSTANT else [*data, "--", *keys]
    return f"exec {RECORDER} {shlex.join([*made_of, '--', *outputs])} # {' '.join(stage['cmd'].split())}"


def is_code(path: str) -> bool:
    return path.startswith("stages/")


def read_keys(entry: str | dict[str, list[str] | None]) -> list[str]:
    """Return the keys of an entry of a stage's `params`: one key, {"params.yaml": keys}, or an empty key for all."""
    if isinstance(entry, str):
        return [entry]
    assert list(entry) == ["params.yaml"], entry
    return entry["params.yaml"] or [""]


def hasten_dvc() -> None:
    """Take out of DVC, in this process, what takes four fifths of its time and has no say in what runs.

    Its YAML parser, written in Python, is slow: the copy's files are JSON, which is YAML too. Its list of what other
    dvc processes read and write is empty: none has this folder.
    """
    import dvc.rwlock
    import ruamel.yaml

    class Json:
        Representer = ruamel.yaml.YAML().Representer  # where DVC registers a class

        def __init__(self, **_: Any):
            pass

        def load(self, text: str) -> Any:
            return json.loads(text)

        def dump(self, data: Any, stream: typing.TextIO) -> None:
            stream.write(json.dumps(data))

    @contextmanager
    def no_lock(*_: Any) -> Iterator[None]:
        yield

    ruamel.yaml.YAML = Json
    dvc.rwlock.rwlock = no_lock
    logging.getLogger("dvc").setLevel(logging.ERROR)  # --quiet


# ---- the edits


class Change(NamedTuple):
    """What is done to a copy, a function and its arguments, while `images` and `weights` are these inputs."""

    inputs: dict[str, str]
    function: Callable[..., None]
    arguments: tuple[str, ...] = ()
    with_code: bool = True  # to a copy with code

    @property
    def name(self) -> str:
        where = "" if self.with_code else " without code"
        return " ".join([*self.inputs.values(), self.function.__name__, *self.arguments]) + where


def edit_parameter(copy: Copy, leaf: str) -> None:
    copy.edit({leaf: other_value(leaf, dict(rerun_tables.leaves(copy.params))[leaf])})


def choose(copy: Copy, leaf: str, value: str) -> None:
    copy.edit({leaf: value})


def append_comment(copy: Copy, file: str) -> None:
    with (copy.folder / "stages" / file).open("a", encoding="utf-8") as opened:
        opened.write("# a comment\n")


def write_file(copy: Copy, name: str) -> None:
    copy.write(name, f"{name}, another one")


def rename(copy: Copy, old: str, new: str) -> None:
    (copy.folder / old).rename(copy.folder / new)


def touch_everything(copy: Copy) -> None:
    """Give every file that a stage reads or writes another time, and params.yaml another layout and order too."""
    copy.write("params.yaml", json.dumps(copy.params, indent=4, sort_keys=True))
    for folder in ("stages", "data", "metrics", "mine"):
        for path in (copy.folder / folder).rglob("*"):
            os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    os.utime(copy.folder / "params.yaml", (LONG_AGO_S, LONG_AGO_S))


def fields() -> Iterator[tuple[str, Any]]:
    """Yield the name and the type of every field of the configuration."""
    waiting = [Section]
    while waiting:
        section = waiting.pop()
        waiting += section.__subclasses__()
        yield from ((name, field.annotation) for name, field in section.model_fields.items())


LITERALS = {name: typing.get_args(kind) for name, kind in fields() if typing.get_origin(kind) is typing.Literal}
FLOATS = {name for name, kind in fields() if kind is float}


def other_value(leaf: str, value: Any) -> Any:
    """Return another value of the leaf; a file with several of them is right, too."""
    name = leaf.rpartition(".")[2]
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return value[:-1] or [{"epochs": 1, "lr": 0.001}]
    if isinstance(value, str):
        return next((each for each in LITERALS.get(name, ()) if each != value), f"{value}x")
    return (value / 2 or 0.5) if name in FLOATS else value + 1


COPY: list[Copy] = []  # of a worker process


def start_worker(folder: Path, with_code: bool) -> None:
    os.environ["SHELL"] = "/bin/sh"
    hasten_dvc()
    COPY.append(Copy(folder / str(os.getpid()), with_code))
    gc.freeze()  # a third of the time would go into looking through all of DVC for what is no longer used
    gc.set_threshold(400_000, 5, 10)


def make_change(change: Change) -> frozenset[str] | str:
    """Make the change in this process's copy; return what ran after it, or what went wrong."""
    (copy,) = COPY
    try:
        copy.start_from(change.inputs)
        change.function(copy, *change.arguments)
        return copy.repro()
    except Exception as error:  # whatever it is, it is what the test found
        return f"{type(error).__name__}: {error}"


# ---- what is expected

EVERYTHING_FROM = {  # a file of the user's own is another one: what runs
    "images": "`split`, `pack`, `train@*`, `finetune@*`, `evaluate@*`, `ensemble`, `report`",
    "weights": "`finetune@*`, `evaluate@*_pretrained`, `ensemble`, `report`",
    "vgg19.safetensors": "`finetune@vgg19`, `evaluate@vgg19_pretrained`, `ensemble`, `report`",
}


Ran = dict[str, frozenset[str] | str]  # by a change's name: the stages that ran, or what went wrong


class Case(NamedTuple):
    change: Change
    expected: frozenset[str]


def parameter_case(leaf: str, inputs: dict[str, str], with_code: bool) -> Case:
    return Case(Change(inputs, edit_parameter, (leaf,), with_code), expected_stages(leaf, inputs))


def parameter_cases() -> list[Case]:
    """Every leaf of params.yaml to another value; what names an input last, since that takes the copy elsewhere."""
    chosen = [(leaf, value) for leaf, values in INPUTS.items() for value in values[1:]]
    return [parameter_case(leaf, FIRST, False) for leaf in LEAVES if leaf not in INPUTS] + [
        Case(Change(FIRST, choose, each, False), expected_stages(each[0], FIRST, each[1])) for each in chosen
    ]


def row_cases() -> list[Case]:
    """One leaf of every row, where the stages list their code as well."""
    _, rows = read_table(0)
    leaves = [next(leaf for leaf in LEAVES if is_match(row.keys[0], leaf)) for row in rows if not row.to]
    return [parameter_case(leaf, FIRST, True) for leaf in leaves]


def code_cases(inputs: dict[str, str]) -> list[Case]:
    """Every file of stages/ longer by a comment; of other inputs, those that a stage of theirs reads."""
    cases = [
        Case(Change(inputs, append_comment, (file,)), expected_readers(file, inputs))
        for file in rerun_tables.compute().by_file
    ]
    return [case for case in cases if inputs == FIRST or any(":" in stage for stage in case.expected)]


def other_input_cases() -> list[Case]:
    """One leaf of each pattern that matters with one input only, while the others are chosen."""
    _, rows = read_table(0)
    patterns = [pattern for row in rows if row.only_with for pattern in row.keys]
    leaves = [next(leaf for leaf in LEAVES if is_match(pattern, leaf)) for pattern in patterns]
    return [parameter_case(leaf, OTHERS, True) for leaf in leaves]


def file_cases() -> list[Case]:
    """Files of the user's own: one more, a folder of another name, other weights; and what changes nothing."""
    images, weights, one_file = (expand(text) for text in EVERYTHING_FROM.values())
    always, _ = read_table(0)
    return [
        Case(Change(OWN, write_file, ("mine/images/rose/2.jpg",)), images),
        Case(Change(OWN, rename, ("mine/images/rose", "mine/images/dahlia")), images),
        Case(Change(OWN, write_file, ("mine/images/tulip/notes.txt",)), images),
        Case(Change(OWN, write_file, ("mine/weights/vgg19.safetensors",)), one_file),
        Case(Change(OWN, touch_everything), frozenset()),
        # inputs that are there are not made again
        Case(Change(OWN, choose, ("weights", FIRST["weights"])), always | weights),
        Case(Change(FIRST | {"images": OWN["images"]}, choose, ("images", FIRST["images"])), always | images),
    ]


def all_cases() -> list[Case]:
    with_code = [*code_cases(FIRST), *row_cases(), *file_cases(), *other_input_cases(), *code_cases(OTHERS)]
    return [*parameter_cases(), *with_code]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """Make every change, half of the cores with copies of either kind, and return by name what ran after each."""
    n_copies = max(1, count_cores() // 2)
    found = []
    with ExitStack() as stack:
        for with_code in (False, True):
            changes = [case.change for case in all_cases() if case.change.with_code == with_code]
            arguments = (n_copies, get_context("spawn"), start_worker, (folder, with_code))
            pool = stack.enter_context(ProcessPoolExecutor(*arguments))
            found.append(zip([change.name for change in changes], pool.map(make_change, changes), strict=True))
    return dict(itertools.chain(*found))


def differences(ran: Ran, cases: list[Case]) -> str:
    """Say, a line each, which changes ran other stages than expected."""
    found = [(case.change.name, case.expected, ran[case.change.name]) for case in cases]
    return "\n".join(
        f"{name}: expected {sorted(expected)}, found {each if isinstance(each, str) else sorted(each)}"
        for name, expected, each in found
        if each != expected
    )


# ---- the tests


def test_the_readme_has_the_tables_of_the_pipeline():
    assert block() == rerun_tables.write_block(), "run `make docs`"


def test_the_tables_know_every_input():
    values = [f"{value}/" for each in INPUTS.values() for value in each]
    for home in {path.parent.as_posix() for path in rerun_tables.dvc_files()} - {"."}:
        assert any(value.startswith(f"{home}/") for value in values), home


def test_every_parameter_has_exactly_one_row():
    # of one that names an input: for each other input
    _, rows = read_table(0)
    expected = dict.fromkeys(LEAVES, 1) | {leaf: len(values) - 1 for leaf, values in INPUTS.items()}
    assert {leaf: len(rows_of(rows, leaf)) for leaf in LEAVES} == expected


def test_every_file_of_code_has_exactly_one_row():
    _, rows = read_table(1)
    expected = dict.fromkeys(rerun_tables.compute().by_file, 1)
    assert {file: len(rows_of(rows, file)) for file in expected} == expected


def test_every_edit_is_to_a_value_that_a_user_could_write(tmp_path: Path):
    leaves = {leaf: value for leaf, value in LEAVES.items() if leaf not in NEVER_ALONE | INPUTS.keys()}
    edits = {leaf: other_value(leaf, value) for leaf, value in leaves.items()}
    assert not [leaf for leaf, value in edits.items() if value == leaves[leaf]]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(rerun_tables.edited(PARAMS, edits)), encoding="utf-8")
    read_config(tmp_path / "params.yaml")


def test_an_edit_of_any_parameter_runs_its_row_and_nothing_else(ran: Ran):
    wrong = differences(ran, parameter_cases() + row_cases())
    assert not wrong, wrong


def test_a_comment_in_any_file_of_code_runs_its_row_and_nothing_else(ran: Ran):
    wrong = differences(ran, code_cases(FIRST) + code_cases(OTHERS))
    assert not wrong, wrong


def test_a_parameter_of_an_input_reruns_nothing_while_another_is_chosen(ran: Ran):
    wrong = differences(ran, other_input_cases())
    assert not wrong, wrong


def test_a_file_runs_what_reads_it_and_what_lies_below(ran: Ran):
    wrong = differences(ran, file_cases())
    assert not wrong, wrong


def test_the_command_line_finds_a_copy_as_these_tests_left_it(ran: Ran, folder: Path):
    # hasten_dvc took nothing out that is missed
    copy = next(folder.iterdir())
    assert repro_by_command(copy) == frozenset()
    params = json.loads((copy / "params.yaml").read_text(encoding="utf-8"))
    voting = other_value("ensemble.voting", params["ensemble"]["voting"])
    write_params(copy, rerun_tables.edited(params, {"ensemble.voting": voting}))
    assert repro_by_command(copy) == expected_stages("ensemble.voting", FIRST)


def repro_by_command(folder: Path) -> frozenset[str]:
    (folder / recording.LOG).write_text("", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, check=True)
    return read_log(folder)
