"""The parameter file, changed at random: whatever stands in it, it is read, or each mistake in it is a line.

QUINTET_FUZZ=20 tries twenty times as many files. The files are the same in every run.
"""

import copy
import datetime
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.check import check_images, check_weights
from stages.runtime.errors import UserError
from stages.settings.reading import read_config
from stages.settings.types import Config
from tests.imports import ROOT

TEXT = (ROOT / "params.yaml").read_bytes()
PARAMS = yaml.safe_load(TEXT)
WORDS = [match.span() for match in re.finditer(rb"(?<=: )[^\s#]+|[\w.]+(?=:)", TEXT)]  # its keys and values
LONGEST_LINE = 2000  # characters


def tries(n: int) -> settings:
    return settings(
        max_examples=int(n * float(os.environ.get("QUINTET_FUZZ", "1"))),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**60), 10**60),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["1e-05", "1e999", "none", "cnn", "data/weights/imagenet", "it's", "${images}", "~", "a" * 300]),
    st.binary(max_size=8),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
)
KEYS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["lr", "models", "cnn", "<<", "=", "seed", "two\nlines", "\x85", "\u2028", "a.b", "", "x" * 300]),
    st.integers(),
    st.none(),
)
PATHS = st.text() | st.lists(st.sampled_from(["..", ".", "data", "weights", "a b", "", "~", "x" * 300])).map("/".join)
VALUES = st.recursive(
    SCALARS,
    lambda each: st.one_of(
        st.lists(each, max_size=4), st.dictionaries(KEYS, each, max_size=4), st.sets(st.text(max_size=3), max_size=3)
    ),
    max_leaves=12,
)
# what matters to YAML, and what the file has in it
SNIPPETS = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\t", b"\n", b"\r", b"\0", b": ", b"- ", b"? ", b"#", b"'", b'"', b"[", b"]", b"{", b"}", b","]),
    st.sampled_from([b"&a ", b"*a", b"<<: ", b"!!int ", b"!!bool ", b"!!timestamp ", b"!!set ", b"!!python/name:os "]),
    st.sampled_from([b"---\n", b"...\n", b"%YAML 9\n", b"|\n", b">-\n", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc2\x85"]),
    st.sampled_from([b"!!int x", b"!!bool 3", b"!!float ''", b"!!binary x", b"2024-02-30", b"0x" + b"f" * 4000]),
    st.sampled_from([b"0x", b"0b_", b"1:30", b".inf", b".nan", b"1e5", b"2024-13-01", b"=", b"~", b"yes", b"9" * 4400]),
    st.sampled_from([b'"\\ud800"', b'"\\0"', b'"\\u2028"', b"[" * 400, b"{a: " * 400, b"\nseed: 1\n", b"\nmodels:\n"]),
)


def _blocks(block: Any) -> list[dict]:
    """List a mapping and all mappings in it."""
    nested = [each for value in block.values() if isinstance(value, dict) for each in _blocks(value)]
    return [block, *nested]


@st.composite
def changed_params(draw) -> dict:
    """Draw the parameters with a few keys changed, removed, added or renamed."""
    params = copy.deepcopy(PARAMS)
    for _ in range(draw(st.integers(1, 5))):
        block = draw(st.sampled_from(_blocks(params)))
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "rename"]))
        key = draw(st.sampled_from(sorted(block, key=repr))) if block else None
        if change == "replace" and block:
            block[key] = draw(VALUES)
        elif change == "remove" and block:
            del block[key]
        elif change == "rename" and block:
            block[draw(KEYS)] = block.pop(key)
        else:
            block[draw(KEYS)] = draw(VALUES)
    return params


@st.composite
def changed_bytes(draw) -> bytes:
    """Draw the file with a few bytes replaced by others, most of them in its values, and now and then cut short."""
    edits = []
    for _ in range(draw(st.integers(1, 4))):
        start, end = draw(st.sampled_from(WORDS))
        if draw(st.integers(0, 3)) == 0:
            start = draw(st.integers(0, len(TEXT)))
        edits.append((start, draw(st.sampled_from([start, start + 1, max(start, end)])), draw(SNIPPETS)))
    content = TEXT
    for start, end, snippet in sorted(edits, reverse=True):
        content = content[:start] + snippet + content[end:]
    return content if draw(st.integers(0, 5)) else content[: draw(st.integers(0, len(content)))]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "params.yaml"


@pytest.fixture
def pipelines(path, monkeypatch) -> None:
    """Work beside the file, in a folder with the repository's input pipelines and no data."""
    for file in [*ROOT.glob("data/*/dvc.yaml"), *ROOT.glob("data/*/*/dvc.yaml")]:
        copied = path.parent / file.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)
    monkeypatch.chdir(path.parent)


def _read(path: Path, content: bytes) -> Config | tuple:
    """Write and read the file; return the configuration, or what is said of it."""
    path.write_bytes(content)
    try:
        return read_config(path)
    except UserError as error:
        return error.args


def _is_line(line: str, beginning: str) -> bool:
    return line.startswith(beginning) and line.strip() != beginning.strip() and len(line.splitlines()) == 1


def _is_right(result: Config | tuple, beginning: str) -> bool:
    """Say whether there is a configuration, or a line or more that are not too long."""
    if isinstance(result, Config):
        return True
    return bool(result) and all(_is_line(line, beginning) and len(line) < LONGEST_LINE for line in result)


@tries(100)
@given(params=changed_params())
def test_changed_parameters_are_read_or_each_mistake_is_a_line(path, params):
    assert _is_right(_read(path, yaml.safe_dump(params, sort_keys=False).encode("utf-8")), f"{path}: ")


@tries(100)
@given(content=changed_bytes())
def test_changed_bytes_are_read_or_each_mistake_is_a_line(path, content):
    assert _is_right(_read(path, content), f"{path}: ")


@tries(40)
@given(text=PATHS)
@pytest.mark.usefixtures("pipelines")
def test_any_path_of_a_folder_is_taken_or_a_mistake_in_it_is_a_line(path, text):
    params = {**PARAMS, "images": text, "weights": text}
    result = _read(path, yaml.safe_dump(params).encode("utf-8"))
    if isinstance(result, Config):
        said = [*check_images(result.images), *check_weights(result.weights, result.models)]
        assert [line for line in said if not _is_line(line, "")] == []
    else:
        assert len(result) == 2
        assert _is_right(result[:1], f"{path}: images: ")
        assert _is_right(result[1:], f"{path}: weights: ")
