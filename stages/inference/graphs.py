"""Trained models, alone or as the ensemble, as one ONNX graph: stored pictures in, calibrated probabilities out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.inference.ensembles import Ensemble, Member
from stages.inference.graph_files import save_graph
from stages.inference.tracing import UntraceableError, trace
from stages.pixels.decoding import SHRINK_LIMIT
from stages.runtime.errors import UserError
from stages.scoring.cross_entropy import TINY
from stages.scoring.voting import EqualVote, LinearPool, Vote

IMAGES, PROBABILITIES = "images_{}", "probabilities"  # names of an input (with its stored size) and of the output


class MemberGraph(nn.Module):
    """A network with its crop and normalisation: (batch, stored, stored, 3) in 0..255 to logits (batch, n_classes)."""

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
    """Pictures to float32 probabilities (batch, n_classes), the same as those of Ensemble.

    The inputs are uint8, (batch, stored, stored, 3), one for each of `stored_sizes_px`, in that order. A graph could
    resize one size to another, but not as `pack` resizes the file (docs/using.md).
    """

    def __init__(self, ensemble: Ensemble):
        super().__init__()
        counted = [each is not None for each in ensemble.members]
        members = [each for each in ensemble.members if each]
        self.members = nn.ModuleList(MemberGraph(each) for each in members)
        self.inputs = [ensemble.stored_sizes_px.index(each.card.stored_size_px) for each in members]
        # numpy arrays: parameters of the vote, not of a network
        self.vote = type(ensemble.vote)(**{key: part[counted] for key, part in vars(ensemble.vote).items()})

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        pixels, members = [each.float() for each in images], zip(self.members, self.inputs, strict=True)
        return pool(self.vote, torch.stack([member(pixels[number]).softmax(dim=1) for member, number in members]))


def pool(vote: Vote, members: torch.Tensor) -> torch.Tensor:
    """Return the probabilities of the vote, as `vote.probabilities` does with arrays, with operations that ONNX has."""
    if isinstance(vote, EqualVote):
        return members.mean(dim=0)
    logits, weights = members.clamp(min=TINY).log(), _column(vote.weights)
    if isinstance(vote, LinearPool):
        return (weights * (logits / _column(vote.temperatures)).softmax(dim=2)).sum(dim=0)
    return (weights * logits).sum(dim=0).softmax(dim=1)


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def write_onnx(path: Path, ensemble: Ensemble) -> list[Path]:
    """Write a graph for any number of pictures; its metadata describe inputs and outputs.

    Returns:
        The files: the graph, and the weights if one file cannot hold them.
    Raises:
        UserError: packages are missing, or the exporter cannot handle a network.
        OSError: the disk is full or read-only.
    """
    try:
        import onnxscript  # noqa: F401 (torch imports it later, without a clear error)
    except ImportError:
        raise UserError(
            "export: expected the packages onnx and onnxscript, but they are not installed; "
            "run `pip install onnx onnxscript onnxruntime`"
        ) from None
    graph = build_graph(ensemble)
    graph.metadata_props.update(describe(ensemble))
    return save_graph(graph, path)


def build_graph(ensemble: Ensemble) -> Any:
    """Return the graph as an onnx_ir.Model.

    Raises:
        UserError: the exporter cannot handle a network; the message names the member.
    """
    sizes_px = ensemble.stored_sizes_px
    inputs = {IMAGES.format(size_px): torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8) for size_px in sizes_px}
    try:
        return trace(EnsembleGraph(ensemble).eval(), inputs, PROBABILITIES)
    except UntraceableError as error:
        members = [each for each in ensemble.members if each]
        for each in members if len(members) > 1 else ():
            build_graph(Ensemble([each], EqualVote(np.ones(1))))  # raises an error that names only this member
        networks = [each.card.arguments.get("network", each.card.architecture) for each in members]
        names = ", ".join(f"{each.name} ({network})" for each, network in zip(members, networks, strict=True))
        raise UserError(
            f"export: expected networks that PyTorch can export to ONNX, but it cannot export {names}: {error}; export "
            "other models with --model, or choose another network"
        ) from None


def describe(ensemble: Ensemble) -> dict[str, str]:
    """Return the metadata: what a user of the graph must know, in words and as JSON."""
    cards, names = {each.name: each.card for each in ensemble.members if each}, ensemble.class_names
    return {
        "what": f"Quintet: {describe_members(ensemble)}",
        "input": "; ".join(
            f"{IMAGES.format(size_px)}: uint8, (batch, {size_px}, {size_px}, 3), RGB from 0 to 255"
            for size_px in ensemble.stored_sizes_px
        ),
        "resizing": (
            "for each input, decode a JPEG at 1/2, 1/4 or 1/8 of its size if no side is then smaller than "
            f"{SHRINK_LIMIT} times the input's (Pillow: draft), "
            f"make grey of more than 8 bits 8 ({_describe_depth(ensemble.grey_bits)}), "
            "convert to sRGB (ICC profile), lay transparency on white, turn the picture upright (EXIF), crop its "
            "largest centred square, resize that to the input's side with an antialiased bicubic filter (Pillow: "
            "ImageOps.fit, BICUBIC); read_square in Quintet's stages/pixels/decoding.py does all of it"
        ),
        "grey_bits": str(ensemble.grey_bits or 0),
        "in_the_graph": "; ".join(
            f"{name}: the centre of {card.image_size_px} px of {IMAGES.format(card.stored_size_px)}, normalised by "
            f"mean {list(card.mean)} and deviation {list(card.std)} of pixels from 0 to 1"
            for name, card in cards.items()
        ),
        "output": f"{PROBABILITIES}: float32, (batch, {len(names)}), rows sum to 1, in the order of classes",
        "classes": json.dumps(names, ensure_ascii=False),
    }


def _describe_depth(grey_bits: int | None) -> str:
    if grey_bits:
        return f"shift values to the right by {grey_bits - 8} bits, and make those above 255 255"
    return "shift values to the right by 2, 4, 6 or 8 bits, until the largest of the picture takes no more than 8"


def describe_members(ensemble: Ensemble) -> str:
    """Describe the members and how they are combined, in words."""
    names = [each.name for each in ensemble.members if each]
    if len(ensemble.members) == 1:
        return f"the model {names[0]}"
    weights = [round(weight, 4) for weight in ensemble.vote.weights.tolist() if weight]
    voters = ", ".join(f"{name} {weight}" for name, weight in zip(names, weights, strict=True))
    return f"a vote ({type(ensemble.vote).__name__}) of {voters}"
