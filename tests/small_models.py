"""A folder of small untrained models and their ensemble, as the pipeline writes them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from stages.doubt.limits import Limits, LimitsFile, write_limits
from stages.doubt.novelty import fit_cloud, write_cloud
from stages.doubt.sets import Calibration
from stages.inference.probabilities import predict_with_features
from stages.inference.vote_files import write_vote
from stages.networks.batches import make_batch
from stages.networks.cards import write_card
from stages.networks.maps import find_layers, identify_head
from stages.networks.model_files import build_network, load_model, save_weights
from stages.scoring.voting import EqualVote, LinearPool, LogarithmicPool, Vote

CLASSES = ["Ångström rose", "daisy", "lily", "orchid", "poppy", "tulip"]
STORED, SIZE = 36, 32
SIZES = {"cnn": 32, "vgg": 32, "resnet50": 64}  # of the members
MARGIN = STORED - SIZE
BLOCKS = {
    "cnn": ("cnn", {"filters": 2, "padding": "same", "dense_units": 8, "dropout": 0.5}),
    "vgg": ("vgg", {"depth": 11, "batch_norm": True, "filters": 2, "dense_units": 8, "dropout": 0.5}),
    "resnet50": ("resnet50", {"filters": 2}),
}
VOTES = {
    "equal": EqualVote(np.full(3, 1 / 3)),
    "linear_pool": LinearPool(np.array([0.25, 0, 0.75]), np.array([0.5, 1.0, 2.0])),
    "logarithmic_pool": LogarithmicPool(np.array([0.7, 0.0, 0.6])),
}

TEMPERATURES = dict(zip(BLOCKS, [0.8, 1.2, 2.0], strict=True))  # for each model alone
SETS = Calibration(9, [0.2, 0.5, 0.95])  # for a coverage of at most 90 %
LIMITS = LimitsFile(Limits(0.9, SETS), {name: Limits(1.0 + i, SETS) for i, name in enumerate(BLOCKS)})


def save_model(
    path: Path, architecture: str, arguments: dict, size_px: int = SIZE, grey_bits: int | None = None
) -> torch.nn.Module:
    """Save a network whose answers differ between pictures; return it in evaluation mode."""
    card = write_card(architecture, arguments, CLASSES, (size_px + MARGIN, size_px), "scratch", grey_bits)
    torch.manual_seed(1)
    network = build_network(card)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # weights of residual branches start at 0
    with torch.no_grad():
        for _ in range(3):
            images = 2 * torch.randn(8, 3, size_px, size_px)
            network(images)  # so that the batch statistics differ from those of a new network
        logits, last = network.eval()(images), list(network.modules())[-1]
        scale = 1 / logits.std(dim=0)  # the logits are near 0 and hardly differ between pictures
        last.weight.mul_(scale[:, None])
        last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)
    save_weights(path, network.state_dict(), asdict(card))
    return network


def save_models(folder: Path, kind: str, vote: Vote, grey_bits: int | None = None) -> None:
    """Save the models of BLOCKS and their ensemble."""
    for name, (architecture, arguments) in BLOCKS.items():
        save_model(folder / f"{name}.safetensors", architecture, arguments, SIZES[name], grey_bits)
    write_vote(folder / "vote.json", kind, vote, TEMPERATURES)


def save_doubts(folder: Path, limits: LimitsFile = LIMITS) -> None:
    """Save limits for the existing models of BLOCKS, as if they had learnt from `noise`."""
    write_limits(folder / "limits.json", limits)
    for name in BLOCKS:
        network, card = load_model(folder / f"{name}.safetensors")
        images, view = noise(24, card.stored_size_px), card.view(torch.device("cpu"))
        layers = find_layers(network, make_batch(images, torch.arange(1), view))
        _, features = predict_with_features(network, layers, images, view)
        cloud = fit_cloud(features, np.arange(24) % len(CLASSES), layers, identify_head(network))
        write_cloud(folder / f"{name}.novelty.npz", cloud)


def pictures(n: int) -> dict[int, np.ndarray]:
    """Return stored pictures from `noise` in each size that the models of BLOCKS need."""
    return {size_px + MARGIN: noise(n, size_px + MARGIN) for size_px in sorted(set(SIZES.values()))}


def noise(n: int, size_px: int = STORED) -> np.ndarray:
    """Return stored pictures, uint8 (n, size_px, size_px, 3), coarse enough to differ after all poolings."""
    coarse = np.random.default_rng(1).integers(0, 256, (n, size_px // 4, size_px // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)
