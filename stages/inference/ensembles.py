"""Load a folder of trained models as one classifier: a single model, or the ensemble of all members with a weight."""

import sys
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import floor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from stages.doubt.limits import Limits, LimitsFile, pool_distances, read_limits
from stages.doubt.novelty import Cloud, read_cloud
from stages.inference.probabilities import predict_proba, predict_with_features
from stages.inference.vote_files import read_lone_vote, read_vote
from stages.networks.cards import ModelCard
from stages.networks.class_names import NAMES_FILE, read_names
from stages.networks.maps import identify_head
from stages.networks.model_files import load_model
from stages.runtime.errors import UserError
from stages.scoring.voting import EqualVote, Vote

VOTE_FILE, LIMITS_FILE = "vote.json", "limits.json"


class Reach(NamedTuple):
    """The distribution of the training pictures for one model, and its limits."""

    cloud: Cloud
    limits: Limits


class Member(NamedTuple):
    """A member of the ensemble."""

    name: str
    network: nn.Module
    card: ModelCard
    reach: Reach | None = None

    def predict(self, images: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
        """Return class probabilities, (n_images, n_classes), and distances, (n_images,); unknown ones are 0."""
        view = self.card.view(device)
        if self.reach is None:
            return predict_proba(self.network, images, view, bar=False), np.zeros(len(images))
        cloud = self.reach.cloud
        probabilities, features = predict_with_features(self.network, cloud.layers, images, view, bar=False)
        return probabilities, cloud.distances(features)


@dataclass(frozen=True)
class Ensemble:
    """The members in order, and how they are combined; None replaces a member with zero weight.

    `limits` say when not to answer; None: unknown.
    """

    members: list[Member | None]
    vote: Vote
    limits: Limits | None = None

    @property
    def class_names(self) -> list[str]:
        """The class names in label order, the same for all members."""
        return next(member.card.class_names for member in self.members if member)

    @property
    def grey_bits(self) -> int | None:
        """Bits of wide grey pixels (more than 8 bits) that the members learnt from; None: decided for each picture."""
        return next(member.card.grey_bits for member in self.members if member)

    @property
    def stored_sizes_px(self) -> list[int]:
        """The sizes in which the members need a picture."""
        return sorted({member.card.stored_size_px for member in self.members if member})

    def find_mass(self, coverage: float) -> float:
        """Return the limit of the sets with this coverage, for stages.doubt.sets.choose_sets.

        Raises:
            UserError: there are no limits, or they come from too few pictures.
        """
        if self.limits is None:
            raise UserError(
                f"--coverage: expected {LIMITS_FILE} with limits for these models, found none; run `dvc repro "
                "ensemble`, get the whole folder (the artifact `vote`), or leave out --coverage"
            )
        sets = self.limits.sets
        if (mass := sets.limit(coverage)) is None:
            raise UserError(
                f"--coverage: expected at most {floor(1e4 * sets.most) / 1e4:g}, the limit for {sets.n_groups} "
                f"validation pictures, found {coverage:g}; ask for less, or use more validation pictures"
            )
        return mass

    def predict_proba(self, images: dict[int, np.ndarray], device: torch.device) -> np.ndarray:
        """Return class probabilities, (n_images, n_classes).

        Args:
            images: for each of `stored_sizes_px`, uint8, shape (n_images, size_px, size_px, 3), as `pack` stores them.
        """
        return self.predict(images, device)[0]

    def predict(self, images: dict[int, np.ndarray], device: torch.device) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the same, and the distances from the training pictures, (n_images,); None: unknown.

        A distance of 1 is the limit: 99 % of the validation pictures do not exceed it.
        """
        n_images = len(next(iter(images.values())))
        # a member with zero weight gives 1 everywhere and does not count: the sum keeps its order, and so its last bits
        probabilities = np.ones((len(self.members), n_images, len(self.class_names)), np.float32)
        distances = np.zeros((len(self.members), n_images))
        for i, member in enumerate(self.members):
            if member:
                probabilities[i], distances[i] = member.predict(images[member.card.stored_size_px], device)
        return self.vote.probabilities(probabilities), self._pool(distances)

    def _pool(self, distances: np.ndarray) -> np.ndarray | None:
        counted = [member is not None for member in self.members]
        reaches = [member.reach for member in self.members if member]
        if self.limits is None or not all(reaches):
            return None
        limits, weights = [reach.limits for reach in reaches], self.vote.weights[counted]
        return pool_distances(distances[counted], limits, weights) / self.limits.distance


def load_ensemble(folder: Path, model: str | None = None) -> Ensemble:
    """Load one model of the folder, or the ensemble with the members that have a weight.

    Args:
        folder: contains NAME.safetensors for each model, vote.json, and, if they are known, limits.json and
            NAME.novelty.npz for each model.
        model: name of a single model; None: the ensemble.
    Raises:
        UserError: the folder, the model or vote.json is missing, this version cannot open a file, or the members come
            from different pipelines.
    """
    if not folder.is_dir():
        found = "a file" if folder.is_file() else "nothing"
        raise UserError(
            f"{folder}: expected a folder of models, found {found}; give the folder with --models, or run `dvc repro`"
        )
    there = sorted(path.stem for path in folder.glob("*.safetensors"))
    if model is not None:
        return _load_alone(folder, model, there)
    names, vote = read_vote(folder / VOTE_FILE)
    counted = [name for name, weight in zip(names, vote.weights, strict=True) if weight]
    if lacking := [name for name in counted if name not in there]:
        raise UserError(
            f"{folder / VOTE_FILE}: expected the models {', '.join(counted)} in the same folder, but "
            f"{', '.join(lacking)} is missing; get the whole folder (the artifact `vote`), ask one model with --model, "
            "or run `dvc repro`"
        )
    limits = read_limits(folder / LIMITS_FILE)
    members = [_load(folder, name, limits) if name in counted else None for name in names]
    _refuse_strangers(folder, [member for member in members if member])
    return Ensemble(members, vote, limits and limits.vote)


def _load_alone(folder: Path, model: str, there: list[str]) -> Ensemble:
    if model not in there:
        raise UserError(
            f"--model: {folder} has no model {model}; "
            + (f"choose one of {', '.join(there)}" if there else "it has no models; run `dvc repro`")
        )
    vote = read_lone_vote(folder / VOTE_FILE, model)
    if vote is None:
        print(f"{folder}: {VOTE_FILE} has no temperature for {model}, so its answers are uncalibrated", file=sys.stderr)
    limits = read_limits(folder / LIMITS_FILE) if vote else None  # sets are calibrated at that temperature
    member, its_limits = _load(folder, model, limits), limits and limits.members.get(model)
    return Ensemble([member], vote or EqualVote(np.ones(1)), its_limits and replace(its_limits, distance=1))


def _load(folder: Path, name: str, limits: LimitsFile | None) -> Member:
    network, card = load_model(folder / f"{name}.safetensors")
    card = replace(card, class_names=read_names(folder / NAMES_FILE, card.class_names))
    return Member(name, network, card, _load_reach(folder / f"{name}.novelty.npz", name, network, limits))


def _load_reach(path: Path, name: str, network: nn.Module, limits: LimitsFile | None) -> Reach | None:
    its_limits = limits and limits.members.get(name)
    if its_limits is None:
        return None
    cloud = read_cloud(path)
    if cloud is None:
        print(f"{path}: not found, so no picture is marked as unlike the training pictures", file=sys.stderr)
        return None
    if str(cloud.head) != identify_head(network):
        raise UserError(
            f"{path}: expected the file that belongs to {name}.safetensors, found another; use both from one run"
        )
    return Reach(cloud, its_limits)


def _refuse_strangers(folder: Path, members: list[Member]) -> None:
    """Refuse members with other classes than the first one, or trained on pictures of another depth."""
    (first, _, ours, _), remedy = members[0], "use models and vote.json of one run"
    for name, _, theirs, _ in members[1:]:
        pairs = zip_longest(ours.class_names, theirs.class_names)
        if differing := next((pair for pair in pairs if pair[0] != pair[1]), None):
            raise UserError(
                f"{folder}: expected models with the same classes, found {len(ours.class_names)} classes in {first} "
                f"and {len(theirs.class_names)} in {name}; the first difference is {differing[0]!r} and "
                f"{differing[1]!r}; {remedy}"
            )
        if ours.grey_bits != theirs.grey_bits:
            raise UserError(
                f"{folder}: expected models trained on grey pictures of the same depth, found {ours.grey_bits} bits in "
                f"{first} and {theirs.grey_bits} in {name}; {remedy}"
            )
