"""Random changes of the parameter file: either the file is read, or each mistake is reported in one line."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.runtime.errors import UserError
from stages.settings.reading import read_params
from tests.repository import ROOT

TEXT = (ROOT / "params.yaml").read_bytes()
WORDS = [match.span() for match in re.finditer(rb"(?<=: )[^\s#]+|[\w.]+(?=:)", TEXT)]  # its keys and values
LONGEST_LINE = 1000  # characters
LEAVES = st.none() | st.booleans() | st.integers(-(10**60), 10**60) | st.floats() | st.text(max_size=20)
VALUES = st.recursive(LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=9), each))
MARKS = ["", "\t", "\n", "\r", "\0", ": ", "- ", "? ", *"#'\"[]{}=", "&a ", "*a", "<<: ", "|\n", "\x85"]
LINES = ["---\n", "%YAML 9\n", "\nseed: 1\n", "\nmodels:\n", "\ndraw:\n"]
TAGGED = ["!!int ", "!!bool ", "!!set ", "!!python/name:os ", "!!float ''", "[[1]]", '"\\ud800"']
WRITTEN = ["2024-02-30", "0b_", "0x", ".nan", "1e999", "9" * 4400, "timm", "vgg", "yes"]
SNIPPETS = st.sampled_from([text.encode() for text in MARKS + LINES + TAGGED + WRITTEN])
NEW_WORDS = VALUES.map(lambda value: json.dumps(value).encode()) | SNIPPETS | st.binary(max_size=6)


@st.composite
def changed_files(draw) -> bytes:
    """Draw a file with a few keys and values replaced by others, sometimes truncated."""
    content = bytearray(TEXT)
    for start, end in sorted(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True)), reverse=True):
        content[start : draw(st.sampled_from([start, start + 1, end]))] = draw(NEW_WORDS)
    return bytes(content if draw(st.integers(0, 5)) else content[: draw(st.integers(0, len(content)))])


@pytest.mark.parametrize("n_files", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_a_changed_file_is_read_or_each_mistake_in_it_is_a_line(tmp_path, n_files):
    path = tmp_path / "params.yaml"

    @settings(max_examples=n_files, derandomize=True, deadline=None, database=None)
    @given(content=changed_files())
    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_params(path)
        except UserError as error:
            said = error.args
            assert said
            assert [line for line in said if not line.startswith(f"{path}: ") or len(line) > LONGEST_LINE] == []

    read()
