"""vote.json: it is read as it was written; a truncated file, or one of another version, gives one line."""

import json

import numpy as np
import pytest

from stages.inference.vote_files import read_lone_vote, read_vote, write_vote
from stages.runtime.errors import UserError
from stages.scoring.temperatures import temper
from stages.scoring.voting import LinearPool, LogarithmicPool

B = np.array([[0.25, 0.75], [0.0, 1.0]])
POOL = LinearPool(np.array([0.1 + 0.2, 0.7]), np.array([1 / 3, 1.0]))
CONTENT = {"voting": "linear_pool", "members": {"a": 0.5, "b": 2.0}, "weights": [0.3, 0.7], "temperatures": [1, 1.5]}


def test_a_member_alone_answers_at_the_temperature_that_the_vote_keeps(tmp_path):
    pool = LogarithmicPool(np.array([0.25, 0.0]))
    write_vote(tmp_path / "vote.json", "logarithmic_pool", pool, {"a": 0.5, "b": 2.0})
    names, found = read_vote(tmp_path / "vote.json")
    assert (names, found.weights.tolist()) == (["a", "b"], [0.25, 0])
    lone = read_lone_vote(tmp_path / "vote.json", "b")
    np.testing.assert_allclose(lone.probabilities(B[None]), temper(B, 2.0), rtol=0, atol=1e-12)
    assert read_lone_vote(tmp_path / "vote.json", "c") is None
    assert read_lone_vote(tmp_path / "nowhere.json", "a") is None


def test_a_vote_is_read_to_the_last_bit(tmp_path):
    write_vote(tmp_path / "vote.json", "linear_pool", POOL, {"a": 0.5, "b": 2.0})
    names, found = read_vote(tmp_path / "vote.json")
    assert (names, type(found)) == (["a", "b"], LinearPool)
    for key, part in vars(POOL).items():
        assert vars(found)[key].tolist() == part.tolist()


STRANGERS = {  # content, and what the message must name
    "half of it": (json.dumps(CONTENT)[:60], "JSON"),
    "bytes": ("\x00\xff", "JSON"),
    "an unknown kind": (json.dumps({**CONTENT, "voting": "median"}), "voting: .*linear_pool.*'median'"),
    "an unknown key": (json.dumps({**CONTENT, "rejects": 1}), "rejects: unknown key"),
    "a missing key": (json.dumps({key: CONTENT[key] for key in CONTENT if key != "weights"}), "weights: missing"),
    "a weight too few": (json.dumps({**CONTENT, "weights": [1]}), "2 members"),
    "no weight": (json.dumps({**CONTENT, "weights": [0, 0]}), "weights of 0"),
    "a weight that is no number": (json.dumps({**CONTENT, "weights": [float("nan"), 1]}), r"weights\.0: "),
    "a temperature of 0": (json.dumps({**CONTENT, "members": {"a": 0, "b": 1}}), r"members\.a: "),
    "a pool without temperatures": (json.dumps({**CONTENT, "temperatures": None}), "temperatures"),
    "other numbers": (json.dumps({**CONTENT, "voting": "logarithmic_pool"}), "temperatures, but a logarithmic_pool"),
}


@pytest.mark.parametrize(("text", "says"), STRANGERS.values(), ids=STRANGERS)
def test_a_vote_that_this_clone_cannot_read_is_one_line_with_what_is_wrong(tmp_path, text, says):
    (tmp_path / "vote.json").write_text(text, encoding="latin-1")
    for read in (read_vote, lambda path: read_lone_vote(path, "a")):
        with pytest.raises(UserError, match=rf"vote\.json: .*{says}") as error:
            read(tmp_path / "vote.json")
        assert len(error.value.args) == 1
        assert "\n" not in str(error.value)
