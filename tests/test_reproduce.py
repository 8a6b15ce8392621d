"""Several stages at once: which stage starts first, which gets all cores, and when no stage can start."""

import json
import subprocess
import sys
from typing import NamedTuple

import pytest
from networkx import DiGraph

from stages import reproduce
from stages.reproduce import find_first, find_giant, follow, measure_chains
from stages.runtime.errors import UserError
from tests.pipelines import ENVIRONMENT


def test_what_the_longest_work_waits_for_begins_first():
    # long and end wait for start; chained waits for input; all are needed by vote
    work = {"start": 1, "input": 5, "long": 9, "chained": 6, "short": 2, "vote": 1}
    needs = [("long", "start"), ("short", "start"), ("chained", "input")]
    graph = DiGraph([*needs, *(("vote", each) for each in ("long", "short", "chained"))])
    chains = measure_chains(graph, work)
    assert chains == {"vote": 1, "long": 10, "chained": 7, "short": 3, "input": 12, "start": 11}


class Stage(NamedTuple):
    addressing: str


def test_the_shortest_way_to_a_score_begins_first():
    work = {"train@long": 9, "train@chained": 2, "train@source": 4, "train@short": 5}
    work |= dict.fromkeys(("evaluate@long", "evaluate@chained", "evaluate@short"), 1)
    needs = [(f"evaluate@{name}", f"train@{name}") for name in ("long", "chained", "short")]
    needs.append(("train@chained", "train@source"))
    graph = DiGraph([(Stage(after), Stage(before)) for after, before in needs])
    first = find_first(graph, {Stage(name): amount for name, amount in work.items()})
    assert first == {Stage("evaluate@short"), Stage("train@short")}


def test_a_training_longer_than_all_others_together_gets_all_cores():
    assert find_giant({"lite": 7, "cnn": 3, "vgg16": 3}) == "lite"
    assert find_giant({"lite": 5, "cnn": 3, "vgg16": 3}) is None


def test_a_process_runs_the_short_stages_that_can_only_follow():
    needs = [("split", "draw"), ("pack", "split"), ("train", "pack"), ("audit", "pack"), ("evaluate", "train")]
    graph = DiGraph([*needs, ("vote", "evaluate"), ("vote", "other"), ("report", "vote"), ("report", "audit")])
    short = {"split", "pack", "evaluate", "vote", "report"}
    assert follow("draw", graph, set(), short) == ["draw", "split", "pack"]  # then two could start
    before = {"draw", "split", "pack"}
    assert follow("train", graph, before, short) == ["train", "evaluate"]  # the vote waits for another
    assert follow("train", graph, {*before, "other"}, short) == ["train", "evaluate", "vote"]
    assert follow("train", graph, {*before, "other", "audit"}, short) == ["train", "evaluate", "vote", "report"]
    assert follow("train", graph, before, short - {"evaluate"}) == ["train"]


def test_a_copy_without_git_as_an_archive_has_it_is_a_users_mistake_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce", "1"])
    with pytest.raises(UserError, match=r"git clone.*git init"):
        reproduce.main()


def test_a_stage_that_a_person_added_runs_too_and_then_everything_is_up_to_date(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])  # has the `dvc` of this environment
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    stages = {
        "evaluate": {"foreach": ["cnn"], "do": {"cmd": "echo 1 > ${item}", "outs": ["${item}"]}},
        "mine": {"cmd": "cp cnn copy", "deps": ["cnn"], "outs": ["copy"]},
    }
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce"])
    reproduce.main()
    assert (tmp_path / "copy").read_text(encoding="utf-8") == "1\n"
    capfd.readouterr()
    reproduce.main()
    assert capfd.readouterr().out == "Data and pipelines are up to date.\n"
