"""Load a folder of trained models as one classifier: a single model, or the ensemble of all members with a weight."""

import sys
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from stages.inference.probabilities import predict_proba
from stages.inference.vote_files import read_lone_vote, read_vote
from stages.networks.cards import ModelCard
from stages.networks.class_names import NAMES_FILE, read_names
from stages.networks.model_files import load_model
from stages.runtime.errors import UserError
from stages.scoring.voting import EqualVote, Vote

VOTE_FILE = "vote.json"


class Member(NamedTuple):
    """A member of the ensemble."""

    name: str
    network: nn.Module
    card: ModelCard


@dataclass(frozen=True)
class Ensemble:
    """The members in order, and how they are combined; None replaces a member with zero weight."""

    members: list[Member | None]
    vote: Vote

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

    def predict_proba(self, images: dict[int, np.ndarray], device: torch.device) -> np.ndarray:
        """Return class probabilities, (n_images, n_classes).

        Args:
            images: of each of `stored_sizes_px`, uint8, shape (n_images, size_px, size_px, 3), as `pack` stores them.
        """
        n_images = len(next(iter(images.values())))
        # a member with zero weight gives 1 everywhere and does not count: the sum keeps its order, and so its last bits
        probabilities = np.ones((len(self.members), n_images, len(self.class_names)), np.float32)
        for row, member in zip(probabilities, self.members, strict=True):
            if member:
                its_images = images[member.card.stored_size_px]
                row[:] = predict_proba(member.network, its_images, member.card.view(device), bar=False)
        return self.vote.probabilities(probabilities)


def load_ensemble(folder: Path, model: str | None = None) -> Ensemble:
    """Load one model of the folder, or the ensemble with the members that have a weight.

    Args:
        folder: contains NAME.safetensors for each model, and vote.json.
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
    members = [_load(folder, name) if name in counted else None for name in names]
    _refuse_strangers(folder, [member for member in members if member])
    return Ensemble(members, vote)


def _load_alone(folder: Path, model: str, there: list[str]) -> Ensemble:
    if model not in there:
        raise UserError(
            f"--model: {folder} has no model {model}; "
            + (f"choose one of {', '.join(there)}" if there else "it has no models; run `dvc repro`")
        )
    member, vote = _load(folder, model), read_lone_vote(folder / VOTE_FILE, model)
    if vote is None:
        print(f"{folder}: {VOTE_FILE} has no temperature for {model}, so its answers are uncalibrated", file=sys.stderr)
    return Ensemble([member], vote or EqualVote(np.ones(1)))


def _load(folder: Path, name: str) -> Member:
    network, card = load_model(folder / f"{name}.safetensors")
    return Member(name, network, replace(card, class_names=read_names(folder / NAMES_FILE, card.class_names)))


def _refuse_strangers(folder: Path, members: list[Member]) -> None:
    """Refuse members with other classes than the first one, or trained on pictures of another depth."""
    (first, _, ours), remedy = members[0], "use models and vote.json of one run"
    for name, _, theirs in members[1:]:
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
