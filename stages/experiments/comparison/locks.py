"""Read a dvc.lock: outputs, whether its entries fit together, and what two runs have in common."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MANIFEST, PREDICTIONS = "data/manifest.csv", "data/predictions"

Stages = Mapping[str, dict[str, Any]]  # the stages of a dvc.lock


def list_outs(stages: Stages) -> dict[str, str]:
    """Return {path: hash} of all outputs in a dvc.lock."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}


def select_behind(stages: Stages) -> dict[str, dict[str, Any]]:
    """Return the stages that the ensemble depends on; a dvc.lock also keeps stages of removed models."""
    models = stages["ensemble"]["params"]["params.yaml"]["models"]
    names = {"split", "ensemble", *(f"{stage}@{name}" for stage in ("train", "evaluate") for name in models)}
    return {name: stage for name, stage in stages.items() if name in names or name.startswith("pack@")}


def find_stale(stages: Stages) -> tuple[str, str] | None:
    """Return a stage that ran on an outdated version of a dependency, and that dependency; None if all fit."""
    behind = select_behind(stages)
    written = list_outs(behind)
    files = {path.removeprefix(f"{PREDICTIONS}/"): md5 for path, md5 in written.items() if path.startswith(PREDICTIONS)}
    # the hash of DVC for a folder with these files
    listed = json.dumps([{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())])
    of_folder = f"{hashlib.md5(listed.encode()).hexdigest()}.dir"
    for name, stage in behind.items():
        for dep in stage.get("deps", ()):
            is_theirs = dep["path"] == PREDICTIONS and dep.get("nfiles") == len(files)  # and no other file
            if written.get(dep["path"], of_folder if is_theirs else dep["md5"]) != dep["md5"]:
                return name, dep["path"]
    return None


def describe_run(stages: Stages) -> dict[str, Any]:
    """Return everything that the results of a run depend on, except the seed."""
    written = list_outs(stages)
    described: dict[str, Any] = {MANIFEST: written.get(MANIFEST)}  # it also depends on earlier splits
    for name, stage in select_behind(stages).items():
        deps = {dep["path"]: dep["md5"] for dep in stage.get("deps", ()) if dep["path"] not in (*written, PREDICTIONS)}
        params = {key: value for file in stage.get("params", {}).values() for key, value in file.items()}
        described[name] = deps, {key: value for key, value in params.items() if key != "seed"}
    return described
