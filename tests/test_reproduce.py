"""Several stages at once: which one begins first, and where none can."""

import sys

import pytest
from networkx import DiGraph

from stages import reproduce
from stages.reproduce import measure_chains
from stages.runtime.errors import UserError


def test_what_the_longest_work_waits_for_begins_first():
    # long and end wait for start; chained waits for input; all are needed by vote
    work = {"start": 1, "input": 5, "long": 9, "chained": 6, "short": 2, "vote": 1}
    needs = [("long", "start"), ("short", "start"), ("chained", "input")]
    graph = DiGraph([*needs, *(("vote", each) for each in ("long", "short", "chained"))])
    chains = measure_chains(graph, work)
    assert chains == {"vote": 1, "long": 10, "chained": 7, "short": 3, "input": 12, "start": 11}


def test_a_copy_without_git_as_an_archive_has_it_is_a_users_mistake_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce", "1"])
    with pytest.raises(UserError, match=r"git clone.*git init"):
        reproduce.main()
