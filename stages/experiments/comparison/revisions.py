"""Read the predictions of a revision: from the workspace, or through its dvc.lock from DVC's cache or a remote."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import yaml
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError
from pygit2 import GitError

from stages.dataset.image_table import COLUMNS
from stages.experiments.comparison.locks import MANIFEST, PREDICTIONS, find_stale, list_outs
from stages.experiments.runs import VOTE
from stages.pixels.packing import number_groups
from stages.runtime.errors import UserError

WORKSPACE = "workspace"  # DVC's name of the working tree
LOCK, PARAMS = "dvc.lock", "params.yaml"
OF_VOTE = "data/vote.npz"
WORDS = ("path", "class", "sha256", "group")  # text columns of the manifest: a class may have the name "nan" or "007"


class Revision:
    """A branch, a tag, a commit, an experiment or the workspace; nothing is checked out."""

    def __init__(self, name: str, commit: str | None = None, storage: dict[str, Any] | None = None) -> None:
        self.name = name
        if name == WORKSPACE:
            self.files = DVCFileSystem()
        else:
            self.files = DVCFileSystem(rev=commit or name, config=storage or read_storage())

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file that git or DVC tracks.

        Raises:
            UserError: the revision does not exist, or the file is not in it, in the cache or on a remote.
        """
        try:
            file = self.files.open(path, "rb")
        except FileNotFoundError:
            raise UserError(self._explain(path)) from None
        except SCMError as error:
            raise UserError(
                f"{self.name}: expected a branch, a commit or an experiment ({error}); `dvc exp list -A` lists "
                "experiments"
            ) from None
        except GitError as error:
            remedy = 'if this folder belongs to another user, run `git config --global --add safe.directory "$PWD"`'
            raise UserError(f"{self.name}: {path}: git: {error}; {remedy}") from None
        except (DvcException, ConnectionError) as error:
            raise UserError(f"{self.name}: {path}: {error}") from None
        with file:
            yield file

    def _explain(self, path: str) -> str:
        if path in (LOCK, PARAMS) or path not in list_outs(self.lock):
            return f"{self.name}: {path}: this revision has no such file; run `dvc repro` on it, and commit"
        if self.name == WORKSPACE:
            return f"{self.name}: {path} is neither in the workspace nor in the cache or on a remote; run `dvc repro`"
        return (
            f"{self.name}: {path} is neither in the cache nor on a remote; run `dvc push` on the machine that made it "
            "(for an experiment `dvc exp push`), or run it again here"
        )

    def _read_yaml(self, path: str) -> Any:
        with self.open(path) as file:
            try:
                return yaml.load(file, Loader=yaml.CSafeLoader)
            except yaml.YAMLError as error:  # for instance after a merge in git
                raise UserError(
                    f"{self.name}: {path}: expected YAML, found {error}; restore the file from git"
                ) from None

    @cached_property
    def lock(self) -> dict[str, dict[str, Any]]:
        """The stages as they last ran.

        Raises:
            UserError: as for `open`; or the stage `ensemble` has not run, or ran on outdated predictions.
        """
        stages = self._read_yaml(LOCK)["stages"]
        if "ensemble" not in stages:
            raise UserError(
                f"{self.name}: {LOCK}: the stage `ensemble` has not run; run `dvc repro` on this revision, and commit"
            )
        if stale := find_stale(stages):
            raise UserError(
                f"{self.name}: {LOCK}: the stage {stale[0]} ran with an older version of {stale[1]}; "
                "run `dvc repro` on this revision, and commit"
            )
        return stages

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of the ensemble: seed, models, ensemble."""
        return self.lock["ensemble"]["params"]["params.yaml"]

    @cached_property
    def images(self) -> str:
        """The folder of the pictures in the manifest; "" if the parameters name no folder."""
        return self._read_yaml(PARAMS).get("images", "")

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """A row per picture, in the order of the packs: COLUMNS, row (in its split), nth (among equal files)."""
        with self.open(MANIFEST) as file:
            table = pd.read_csv(file, dtype=dict.fromkeys(WORDS, str), keep_default_na=False)
        if missing := ", ".join(name for name in COLUMNS if name not in table):
            raise UserError(
                f"{self.name}: {MANIFEST}: the columns {missing} are missing; run `dvc repro` on it, and commit"
            )
        return table.assign(row=table.groupby("split").cumcount(), nth=table.groupby("sha256").cumcount())

    @property
    def class_names(self) -> list[str]:
        """The class names in label order."""
        return self.manifest.drop_duplicates("label").sort_values("label")["class"].tolist()

    def read_probabilities(self, split: str) -> dict[str, np.ndarray]:
        """Return the probabilities of each model, and last of the ensemble: float, shape (n_images, n_classes).

        Raises:
            UserError: predictions are missing, or not for the pictures of the manifest.
        """
        paths = {name: f"{PREDICTIONS}/{name}.npz" for name in self.settings["models"]} | {VOTE: OF_VOTE}
        return {name: self._read_predictions(path, split) for name, path in paths.items()}

    def _read_predictions(self, path: str, split: str) -> np.ndarray:
        listed = self.manifest[self.manifest["split"] == split]
        expected = {"labels": listed["label"].to_numpy(), "groups": number_groups(listed["group"])}
        with self.open(path) as file, np.load(file) as arrays:
            if not all(np.array_equal(arrays.get(f"{split}_{key}"), values) for key, values in expected.items()):
                raise UserError(
                    f"{self.name}: {path}: expected predictions for the {split} pictures of {MANIFEST}, found other "
                    "pictures or an older format; run `dvc repro` on this revision, and commit"
                )
            return arrays[f"{split}_probabilities"]


def read_storage() -> dict[str, Any]:
    """Return the current places of cache and remotes: a revision may be older than the remote with its data."""
    try:
        with Repo() as repo:
            config = repo.config
    except DvcException as error:
        raise UserError(f"{error}; run this command in the folder of dvc.yaml") from None
    core = {"remote": config["core"]["remote"]} if "remote" in config["core"] else {}
    return {"core": core, "remote": config["remote"], "cache": config["cache"]}
