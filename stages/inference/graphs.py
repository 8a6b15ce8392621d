"""Trained models, alone or as a vote, as one ONNX graph: stored pictures in, calibrated probabilities out."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.inference.ensembles import Ensemble, Member
from stages.runtime.errors import UserError
from stages.runtime.files import written_whole
from stages.scoring.cross_entropy import TINY
from stages.scoring.voting import EqualVote, LinearPool, Vote

IMAGES, PROBABILITIES = "images", "probabilities"  # names of input and output


class MemberGraph(nn.Module):
    """A network with all that comes before it: (batch, stored, stored, 3) in 0..255 to logits (batch, n_classes)."""

    def __init__(self, member: Member):
        super().__init__()
        view = member.card.view(torch.device("cpu"))
        self.network, self.start, self.end = member.network, view.margin_px // 2, view.margin_px // 2 + view.size_px
        mean, std = torch.tensor(view.mean), torch.tensor(view.std)
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("offset", -mean / std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        centre = images[:, self.start : self.end, self.start : self.end] * self.scale + self.offset
        return self.network(centre.permute(0, 3, 1, 2))


class EnsembleGraph(nn.Module):
    """Uint8 pictures (batch, stored, stored, 3) to float32 probabilities (batch, n_classes), as Ensemble has it."""

    def __init__(self, ensemble: Ensemble):
        super().__init__()
        counted = [each is not None for each in ensemble.members]
        self.members = nn.ModuleList(MemberGraph(each) for each in ensemble.members if each)
        # as numpy arrays: parameters of the vote, not of a network
        self.vote = type(ensemble.vote)(**{key: part[counted] for key, part in vars(ensemble.vote).items()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images.float()
        return pool(self.vote, torch.stack([member(pixels).softmax(dim=1) for member in self.members]))


def pool(vote: Vote, members: torch.Tensor) -> torch.Tensor:
    """Return the vote's probabilities, as `vote.probabilities` does it with arrays, in operations that ONNX has."""
    if isinstance(vote, EqualVote):
        return members.mean(dim=0)
    logits, weights = members.clamp(min=TINY).log(), _column(vote.weights)
    if isinstance(vote, LinearPool):
        return (weights * (logits / _column(vote.temperatures)).softmax(dim=2)).sum(dim=0)
    return (weights * logits).sum(dim=0).softmax(dim=1)


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def write_onnx(path: Path, ensemble: Ensemble) -> None:
    """Write a graph for any number of pictures, and in its metadata what they are and what it answers.

    Raises:
        UserError: the packages that this needs are not installed.
        OSError: the disk is full, or not to be written to.
    """
    try:
        import onnxscript  # noqa: F401 (torch imports it, and would not say so in a line)
    except ImportError:
        raise UserError(
            "export: expected the packages of the extra `onnx`, found none; run pip install onnx onnxscript onnxruntime"
        ) from None
    size_px = ensemble.card.stored_size_px
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own insides
        program = torch.onnx.export(
            EnsembleGraph(ensemble).eval(),
            (torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8),),
            input_names=[IMAGES],
            output_names=[PROBABILITIES],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(describe(ensemble))
    with written_whole(path) as temporary:
        program.save(temporary)


def describe(ensemble: Ensemble) -> dict[str, str]:
    """Return what a user of the graph has to know, in words and as JSON."""
    card, members = ensemble.card, [each for each in ensemble.members if each]
    sides = f"{card.stored_size_px} x {card.stored_size_px}"
    return {
        "what": f"Quintet: {describe_members(ensemble)}",
        "input": f"{IMAGES}: uint8, (batch, {card.stored_size_px}, {card.stored_size_px}, 3), RGB from 0 to 255",
        "resizing": (
            "turn the picture upright (EXIF), lay transparency on white, convert to RGB, crop its largest centred "
            f"square, resize that to {sides} px with an antialiased bicubic filter (Pillow: ImageOps.fit, BICUBIC)"
        ),
        "in_the_graph": "; ".join(
            f"{each.name}: its centre of {each.card.image_size_px} px, normalised by mean {list(each.card.mean)} and "
            f"deviation {list(each.card.std)} of pixels from 0 to 1"
            for each in members
        ),
        "output": f"{PROBABILITIES}: float32, (batch, {len(card.class_names)}), rows sum to 1, in the order of classes",
        "classes": json.dumps(card.class_names, ensure_ascii=False),
    }


def describe_members(ensemble: Ensemble) -> str:
    """Return who votes, and how, in words."""
    names = [each.name for each in ensemble.members if each]
    if len(ensemble.members) == 1:
        return f"the model {names[0]}"
    weights = [round(weight, 4) for weight in ensemble.vote.weights.tolist() if weight]
    voters = ", ".join(f"{name} {weight}" for name, weight in zip(names, weights, strict=True))
    return f"a vote ({type(ensemble.vote).__name__}) of {voters}"
