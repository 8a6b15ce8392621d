"""Clones of the working tree with the smallest parameters that run, in which commands run as for a user."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.repository import ROOT

SOURCE = "data/weights/source"
FLOWERS = "data/flowers/params.yaml"
START = "start.safetensors"
IMAGES = f"{SOURCE}/images"  # three classes instead of the 104 of data/flowers
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "PYTHONPATH", "WORLD_SIZE")},
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
    "QUINTET_DEVICE": "cpu",
}


def shrink(params: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with the same structure and the smallest sizes that run; weights come from the same run."""
    models = params["models"]
    params["images"] = IMAGES
    if "draw" in params:
        params["draw"] |= {"n_classes": 3, "images_per_class": 12, "size_px": 36}
    for block in models.values():
        block["image_size_px"] = 76 if block.get("padding") == "valid" else 32
        settings = {**params["training"], **block}
        most = {
            "dense_units": 4,
            "depth": 11,
            "batch_size": 8,
            "epochs": 3 if settings["rounds"] > 1 else 2,
            "frozen_epochs": 1,
            "warmup_epochs": 1,
            "rounds": 2,
            "patience": 1,
        }
        block |= {key: min(value, settings[key]) for key, value in most.items() if key in settings}
        if block["architecture"] != "timm":
            block["filters"] = 2
        block["phases"] = [{"epochs": 1, "lr": phase["lr"]} for phase in settings["phases"]]
        if not block["weights"].startswith(("data/weights/scratch", SOURCE)):
            block["weights"] = replace_weights(block, models)
    params["image_sizes_px"] = sorted({block["image_size_px"] for block in models.values()})
    if "audit" in params:  # the tests audit the source set, whose own networks have learnt its labels
        params["audit"] = {"architecture": "cnn", "weights": START, "image_size_px": params["image_sizes_px"][0]}
        params["audit"] |= {"filters": 2, "padding": "same", "dense_units": 0, "dropout": 0}
    return params


def write_start(path: Path) -> None:
    """Write weights without metadata, for the network of an audit."""
    import torch
    from safetensors.torch import save_file

    from stages.models.cnn import build_model

    torch.manual_seed(1)
    network = build_model(2, 32, filters=2, padding="same", dense_units=0, dropout=0)
    save_file(network.backbone.state_dict(), path)


def replace_weights(block: dict[str, Any], models: dict[str, Any]) -> str:
    """Return a model of the same run, trained from scratch, that can replace downloaded weights."""
    backbone = ("architecture", "network", "batch_norm")
    for name, other in models.items():
        if other["weights"] == "data/weights/scratch" and all(block.get(key) == other.get(key) for key in backbone):
            return f"data/models/{name}.safetensors"
    return "data/weights/scratch"


class Clone:
    """A git repository with the files of the working tree, and these parameters."""

    def __init__(self, folder: Path, recipe: str = "params.yaml", change: Callable[[dict], None] = lambda params: None):
        self.folder = folder
        listed = self.run("git ls-files -z --cached --others --exclude-standard", cwd=ROOT)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("metrics/") and not name.endswith("dvc.lock"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / "params.yaml").write_bytes((ROOT / recipe).read_bytes())
        self.edit(shrink)
        self.edit(shrink, f"{SOURCE}/params.yaml")
        self.edit(lambda params: params["draw"].update(n_images=312, min_images=3, size_px=32), FLOWERS)
        self.edit(change)
        write_start(folder / START)
        for command in (
            "git init -q",
            "git config user.email tests@example.org",
            "git config user.name tests",
            "git add .",
            "git commit -qm start",
        ):
            self.run(command)

    def beside(self, folder: Path) -> "Clone":
        """Return a repository that already exists."""
        other = Clone.__new__(Clone)
        other.folder = folder
        return other

    def read(self, name: str = "params.yaml") -> dict:
        return YAML(typ="safe").load(self.folder / name)

    def edit(self, change: Callable[[dict], object], name: str = "params.yaml") -> None:
        yaml = YAML()
        params = yaml.load(self.folder / name)
        change(params)
        yaml.dump(params, self.folder / name)

    def start(self, command: str) -> subprocess.Popen:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(shlex.split(command), cwd=self.folder, env=ENVIRONMENT, start_new_session=True, **pipes)

    def run(self, command: str, expected: int = 0, cwd: Path | None = None) -> str:
        """Run a command to its end; return its output."""
        done = subprocess.run(
            shlex.split(command), cwd=cwd or self.folder, env=ENVIRONMENT, text=True, capture_output=True, check=False
        )
        assert (done.returncode != 0) == bool(expected), done.stdout + done.stderr
        return done.stdout + done.stderr

    def commit(self) -> None:
        self.run("git add .")
        self.run("git commit -q --allow-empty -m results")

    def repro(self) -> set[str]:
        """Run `dvc repro`; return the stages that ran according to its output."""
        return ran(self.run("dvc repro"))

    def kill_when(self, command: str, moment: Callable[[], bool]) -> bool:
        """Kill a command and all its child processes at some time; return whether it was still running."""
        with self.start(command) as process:
            while process.poll() is None and not moment():
                time.sleep(0.01)
            was_running = process.poll() is None
            if was_running:
                os.killpg(process.pid, signal.SIGKILL)
        return was_running

    def bytes_of(self, *names: str) -> dict[str, bytes]:
        """Return the content of these files, and of all files in these folders."""
        paths = [self.folder / name for name in names]
        files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
        return {file.relative_to(self.folder).as_posix(): file.read_bytes() for file in files if file.is_file()}


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))
