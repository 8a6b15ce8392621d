"""Compare two revisions in a tiny repository with real git and DVC: what is read, printed, shown and refused."""

import hashlib
import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.repo import Repo
from PIL import Image
from pygit2 import GitError

from stages.experiments import compare
from stages.experiments.comparison.locks import MANIFEST, find_stale, list_outs, select_behind
from stages.experiments.comparison.revisions import OF_VOTE
from stages.pixels.packing import number_groups
from stages.runtime.errors import UserError
from stages.scoring.predictions import Predictions, write_predictions
from tests.repository import ROOT

PIPELINE = """
stages:
  split: {cmd: "true", params: [images], outs: [data/manifest.csv]}
  evaluate:
    foreach: ${models}
    do: {cmd: "true", deps: [data/manifest.csv], params: [seed, "models.${key}"], outs: ["data/predictions/${key}.npz"]}
  ensemble: {cmd: "true", deps: [data/predictions], params: [seed, models], outs: [data/vote.npz]}
"""
CLASSES = ["iris", "rose"]
SPLITS = ["train", *["val"] * 8, *["test"] * 2]  # for each class
N_VAL = 16


def write_state(folder: Path, right: int, seed: int = 1, lr: float = 0.1, others: tuple[str, ...] = ("vgg",)) -> None:
    """Write the results of a run: so many of 16 val pictures are right for ensemble and `cnn`, 8 for the others."""
    params = {"images": "images", "seed": seed, "models": {"cnn": {"lr": lr}, **{name: {} for name in others}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    lines, groups = ["path,label,class,split,sha256,width,height,group"], {split: [] for split in SPLITS}
    for label, name in enumerate(CLASSES):
        for i, split in enumerate(SPLITS):
            digest = hashlib.sha256((folder / f"images/{name}/{i}.png").read_bytes()).hexdigest()
            lines.append(f"{name}/{i}.png,{label},{name},{split},{digest},9,9,{name}{i}")
            groups[split].append(f"{name}{i}")
    shutil.rmtree(folder / "data/predictions", ignore_errors=True)
    (folder / "data").mkdir(exist_ok=True)
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = {
        OF_VOTE: right,
        "data/predictions/cnn.npz": right,
        **{f"data/predictions/{name}.npz": 8 for name in others},
    }
    for path, n_right in files.items():
        arrays = []
        for split, n_each in (("val", 8), ("test", 2)):
            labels = np.repeat([0, 1], n_each)
            answers = np.where(np.arange(2 * n_each) < n_right, labels, 1 - labels)
            arrays += [np.eye(2)[answers] * 0.8 + 0.1, labels, number_groups(groups[split])]
        write_predictions(folder / path, Predictions(*arrays, np.array(CLASSES)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository: 8 of 16 are right in main, 14 in `warmer`; with seed 2, 9 and 13."""
    folder = tmp_path_factory.mktemp("repository")
    for name in CLASSES:
        (folder / "images" / name).mkdir(parents=True)
        for i in range(len(SPLITS)):
            pixels = np.random.default_rng(100 * CLASSES.index(name) + i).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{name}/{i}.png")
    (folder / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (folder / ".gitignore").write_text("/data\n/images\n/metrics\n", encoding="utf-8")
    git(folder, "init -q -b main")
    Repo.init(folder).close()
    git(folder, "config user.email tests@example.org")
    git(folder, "config user.name tests")
    with chdir(folder), Repo(folder) as repo:
        write_state(folder, right=8)
        repo.commit(force=True)
        git(folder, "add .")
        git(folder, "commit -qm main")
        for name, state in {
            "warmer": {"right": 14, "lr": 0.2},
            "main-again": {"right": 9, "seed": 2},
            "warmer-again": {"right": 13, "seed": 2, "lr": 0.2},
        }.items():
            write_state(folder, **state)
            repo.commit(force=True)
            repo.experiments.save(name=name)
        write_state(folder, right=8, others=())
        repo.commit(force=True)
    return folder


def git(folder: Path, command: str) -> str:
    return subprocess.run(["git", *command.split()], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Return a function that runs the command in the repository, and returns what it prints."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        compare.main()
        return capsys.readouterr().out

    return run


def test_an_experiment_is_compared_with_a_branch_and_what_did_not_change_is_no_row(run, folder):
    found = json.loads(run("main", "warmer", "--json"))
    assert (found["n_images"], found["unchanged"], found["n_changed"]) == (16, ["vgg"], 6)
    assert [row["model"] for row in found["rows"]] == ["cnn", "ensemble"]
    row = found["rows"][1]
    assert (row["accuracy_before"], row["accuracy_after"], row["accuracy_difference"]) == (0.5, 0.875, 0.375)
    assert row["mid_p"] == pytest.approx(1 / 64)  # 6 against 0: 2 / 64, halved
    assert row["holm_p"] == pytest.approx(2 / 64)
    assert found["classes"] == [{"name": "rose", "n_images": 8, "gained": 6, "lost": 0, "other": 0}]
    assert found["surest"][0]["path"] == "rose/1.png"
    page = (folder / "metrics/compare/compare.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 12  # the most confident ones, and all by class
    assert "http" not in page.replace("http-equiv", "")


def test_the_workspace_is_what_a_lone_revision_is_compared_with(run):
    found = json.loads(run("warmer", "--json"))
    assert found["names"] == {"before": "warmer", "after": "workspace"}
    assert found["only"] == {"before": ["vgg"], "after": []}
    assert found["rows"][1]["accuracy_difference"] == -0.375


def test_the_test_split_is_read_only_on_demand_and_the_heading_says_so(run):
    assert "test split" not in run("main", "warmer")
    for form in ([], ["--md"]):
        assert "test split" in run("main", "main-again", "--split", "test", *form).splitlines()[0]


def test_markdown_is_a_table_with_a_row_a_model(run):
    lines = run("main", "warmer", "--md").splitlines()
    first = [line.split(" | ")[0] for line in lines if line.startswith("|")]
    assert first == ["| model", "| ---", "| cnn", "| ensemble", "| class", "| ---", "| rose"]


def test_over_seeds_experiments_are_found_that_differ_by_it_alone(run):
    found = json.loads(run("main", "warmer", "--over", "seed", "--json"))
    assert found["seeds"] == [1, 2]
    row = found["rows"][1]
    assert row["accuracy_difference"] == (6 + 4) / 2 / 16
    assert row["seed_deviation"] == pytest.approx(2 / 16 / 2**0.5)
    with pytest.raises(UserError, match="--over seed"):
        run("main", "main-again", "--over", "seed")


def test_predictions_come_from_a_remote_where_the_cache_lacks_them_and_else_are_asked_for(run, folder, tmp_path):
    cache, config = folder / ".dvc/cache", folder / ".dvc/config"
    shutil.move(cache, tmp_path / "remote")
    before = config.read_text(encoding="utf-8")
    try:
        with pytest.raises(UserError, match=r"main: data/manifest\.csv.*dvc push"):
            run("main", "warmer")
        # a remote that is newer than both revisions
        config.write_text(f"[core]\nremote = far\n['remote \"far\"']\nurl = {tmp_path}/remote\n", encoding="utf-8")
        assert "16 pictures" in run("main", "warmer")
    finally:
        config.write_text(before, encoding="utf-8")
        shutil.rmtree(cache, ignore_errors=True)
        shutil.move(tmp_path / "remote", cache)


@pytest.mark.parametrize("name", ["nowhere", "HEAD~9", "empty"])
def test_what_is_no_revision_or_was_not_run_is_one_line(folder, run, name):
    empty = git(folder, "commit-tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904 -m empty").strip()
    git(folder, f"branch -f empty {empty}")
    with pytest.raises(UserError, match=name) as error:
        run(name, "main")
    assert len(error.value.args) == 1


def test_a_repository_of_another_user_is_one_line_with_what_to_do(run, monkeypatch):
    def refuse(*_):
        raise GitError("repository path '/x' is not owned by current user")

    monkeypatch.setattr("dvc.api.DVCFileSystem.open", refuse)
    with pytest.raises(UserError, match=r"not owned by current user.*safe\.directory") as error:
        run("main")
    assert len(error.value.args) == 1


def test_predictions_of_other_pictures_than_the_manifest_lists_are_refused(folder, run):
    manifest = folder / MANIFEST
    lines = manifest.read_text(encoding="utf-8").splitlines()
    kept = manifest.read_bytes()
    manifest.unlink()
    manifest.write_text("\n".join([*lines[:2], lines[3], lines[2], *lines[4:]]) + "\n", encoding="utf-8")
    try:
        with pytest.raises(UserError, match=r"workspace: data/predictions/cnn\.npz"):
            run("main")
    finally:
        manifest.write_bytes(kept)


def test_parameters_that_name_no_folder_of_pictures_are_compared_all_the_same(folder, run):
    params = folder / "params.yaml"
    kept = params.read_text(encoding="utf-8")
    params.write_text(kept.replace("images: images\n", ""), encoding="utf-8")
    try:
        assert json.loads(run("main", "--json"))["n_images"] == 16
    finally:
        params.write_text(kept, encoding="utf-8")


def test_a_vote_of_other_predictions_than_there_are_is_no_result():
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    assert {MANIFEST, OF_VOTE, "data/predictions/cnn.npz"} <= list_outs(select_behind(stages)).keys()
    assert find_stale(stages) is None
    next(out for out in stages["evaluate@cnn"]["outs"] if out["path"] == "data/predictions/cnn.npz")["md5"] = "0" * 32
    assert find_stale(stages) == ("ensemble", "data/predictions")
