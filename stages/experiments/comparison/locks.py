"""What a dvc.lock says of a run: what was written, whether it fits together, and what another run has in common."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MANIFEST, PREDICTIONS = "data/manifest.csv", "data/predictions"

Stages = Mapping[str, dict[str, Any]]  # of a dvc.lock


def list_outs(stages: Stages) -> dict[str, str]:
    """Return {path: hash} of all that the stages of a dvc.lock wrote."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}


def select_behind(stages: Stages) -> dict[str, dict[str, Any]]:
    """Return the stages of a dvc.lock that the vote comes from; DVC keeps there what models left that were removed."""
    models = stages["ensemble"]["params"]["params.yaml"]["models"]
    names = {"split", "ensemble", *(f"{stage}@{name}" for stage in ("train", "evaluate") for name in models)}
    return {name: stage for name, stage in stages.items() if name in names or name.startswith("pack@")}


def find_stale(stages: Stages) -> tuple[str, str] | None:
    """Return a stage behind the vote that ran on something else than the stage before it wrote last, and what."""
    behind = select_behind(stages)
    written = list_outs(behind)
    files = {path.removeprefix(f"{PREDICTIONS}/"): md5 for path, md5 in written.items() if path.startswith(PREDICTIONS)}
    # the hash that DVC gives to a folder of these files
    listed = json.dumps([{"md5": md5, "relpath": name} for name, md5 in sorted(files.items())])
    of_folder = f"{hashlib.md5(listed.encode()).hexdigest()}.dir"
    for name, stage in behind.items():
        for dep in stage.get("deps", ()):
            is_theirs = dep["path"] == PREDICTIONS and dep.get("nfiles") == len(files)  # and no file of somebody else
            if written.get(dep["path"], of_folder if is_theirs else dep["md5"]) != dep["md5"]:
                return name, dep["path"]
    return None


def describe_run(stages: Stages) -> dict[str, Any]:
    """Return what a run's results depend on, but for the seed: two runs of which it is equal differ by that alone."""
    written = list_outs(stages)
    described: dict[str, Any] = {MANIFEST: written.get(MANIFEST)}  # it depends on earlier splits, too
    for name, stage in select_behind(stages).items():
        deps = {dep["path"]: dep["md5"] for dep in stage.get("deps", ()) if dep["path"] not in (*written, PREDICTIONS)}
        params = {key: value for file in stage.get("params", {}).values() for key, value in file.items()}
        described[name] = deps, {key: value for key, value in params.items() if key != "seed"}
    return described
