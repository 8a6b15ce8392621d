"""A folder of trained models as one that answers: a member alone, or all that have a say in the vote."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from stages.inference.probabilities import predict_proba
from stages.networks.class_names import NAMES_FILE, read_names
from stages.networks.model_files import ModelCard, load_model
from stages.runtime.errors import UserError
from stages.scoring.voting import EqualVote, Vote, read_lone_vote, read_vote

VOTE_FILE = "vote.json"


class Member(NamedTuple):
    """A model that votes."""

    name: str
    network: nn.Module
    card: ModelCard


@dataclass(frozen=True)
class Ensemble:
    """Members in the vote's order, and the vote; where one has no weight in it, None stands for it."""

    members: list[Member | None]
    vote: Vote

    @property
    def class_names(self) -> list[str]:
        """The class names in label order, on which all members agree."""
        return next(member.card.class_names for member in self.members if member)

    @property
    def stored_sizes_px(self) -> list[int]:
        """The sizes in which the members want a picture."""
        return sorted({member.card.stored_size_px for member in self.members if member})

    def predict_proba(self, images: dict[int, np.ndarray], device: torch.device) -> np.ndarray:
        """Return class probabilities, (n_images, n_classes).

        Args:
            images: of each of `stored_sizes_px`, uint8, shape (n_images, size_px, size_px, 3), as `pack` stores them.
        """
        n_images = len(next(iter(images.values())))
        # a member of no weight says 1 throughout, which no pool counts: so the sum keeps its order, and its last bits
        probabilities = np.ones((len(self.members), n_images, len(self.class_names)), np.float32)
        for row, member in zip(probabilities, self.members, strict=True):
            if member:
                its_images = images[member.card.stored_size_px]
                row[:] = predict_proba(member.network, its_images, member.card.view(device), bar=False)
        return self.vote.probabilities(probabilities)


def load_ensemble(folder: Path, model: str | None = None) -> Ensemble:
    """Load a model of the folder, or its vote with the members that have a weight in it.

    Args:
        folder: holds NAME.safetensors of each model, and vote.json.
        model: a name; None is the vote.
    Raises:
        UserError: there is no such folder, model or vote, or its members are not of one pipeline.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of models, found none; name it with --models, or run `dvc repro`")
    if model is not None:
        found = sorted(path.stem for path in folder.glob("*.safetensors"))
        if model not in found:
            raise UserError(f"--model: expected one of {', '.join(found) or 'none'} in {folder}, found {model}")
        vote = read_lone_vote(folder / VOTE_FILE, model)
        if vote is None:
            print(
                f"{folder}: no temperature of {model} in {VOTE_FILE}, so its answers are uncalibrated", file=sys.stderr
            )
        return Ensemble([_load(folder, model)], vote or EqualVote(np.ones(1)))
    names, vote = read_vote(folder / VOTE_FILE)
    weights = zip(names, vote.weights, strict=True)
    ensemble = Ensemble([_load(folder, name) if weight else None for name, weight in weights], vote)
    if len({tuple(member.card.class_names) for member in ensemble.members if member}) > 1:
        raise UserError(f"{folder}: expected models of the same classes; run `dvc repro`")
    return ensemble


def _load(folder: Path, name: str) -> Member:
    network, card = load_model(folder / f"{name}.safetensors")
    return Member(name, network, replace(card, class_names=read_names(folder / NAMES_FILE, card.class_names)))
