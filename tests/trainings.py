"""The smallest networks, images and settings that can be trained."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from stages.models.cnn import build_model
from stages.networks.batches import MEAN, STD, View
from stages.pixels.packed_splits import PackedSplit
from stages.settings.types import Augment, ModelSettings
from stages.training.job import Job

CPU = torch.device("cpu")
SIZE = 16
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
STILL = 1e-12  # a learning rate that changes nothing
SETTINGS = ModelSettings(
    architecture="cnn",
    weights="data/weights/scratch",
    image_size_px=SIZE,
    optimizer="adam",
    lr=0.01,
    backbone_lr=None,
    momentum=0,
    epsilon=1e-8,
    weight_decay=0,
    batch_size=10,
    epochs=2,
    min_steps=0,
    head_start="random",
    frozen_epochs=0,
    frozen_views=0,
    frozen_batch_norm=False,
    frozen_layers=[],
    warmup_epochs=0,
    phases=[],
    rounds=1,
    patience=0,
    keep="accuracy",
    schedule="none",
    label_smoothing=0,
    class_weights="none",
    gradient_clip=0,
    mixup=0,
    cutmix=0,
    ema_decay=0,
    sync_batch_norm=False,
    precision="fp32",
    compile="none",
)
AUGMENT = Augment(
    crop=True, scale=1, ratio=1, flip=True, rotation_deg=0, zoom=0, shift=0, colour=0, policy="none", erase=0
)


def change_settings(**changes) -> ModelSettings:
    """Return SETTINGS with some keys changed."""
    return SETTINGS.model_copy(update=changes)


def plain_split(labels: list[int], seed: int = 0) -> PackedSplit:
    """Return plain colours, one per class; each image is slightly lighter or darker."""
    shades = np.random.default_rng(seed).integers(-25, 26, (len(labels), 1, 1, 3))
    images = np.array(COLOURS)[labels][:, None, None] + shades
    whole = np.broadcast_to(images, (len(labels), SIZE + 2, SIZE + 2, 3))
    return PackedSplit(np.ascontiguousarray(whole, dtype=np.uint8), np.array(labels))


def numbered_split(n: int) -> PackedSplit:
    """Return images whose pixels are 8 * i for number i; class 0 has more images than the others."""
    images = np.broadcast_to(8 * np.arange(n)[:, None, None, None], (n, SIZE + 2, SIZE + 2, 3))
    return PackedSplit(np.ascontiguousarray(images, dtype=np.uint8), np.maximum(np.arange(n) % 5 - 2, 0))


def numbers_of(batch: torch.Tensor) -> list[int]:
    """Return which images of `numbered_split` are in a normalised batch."""
    return ((batch[:, 0, 0, 0] * 0.229 + 0.485) * 255 / 8).round().int().tolist()


def noise_split(n: int, size_px: int = SIZE + 2) -> PackedSplit:
    """Return random images, with labels 0, 1, 2, 0 and so on."""
    rng = np.random.default_rng(5)
    return PackedSplit(rng.integers(0, 256, (n, size_px, size_px, 3), dtype=np.uint8), np.arange(n) % 3)


def make_job(settings: ModelSettings = SETTINGS, train=None, val=None, size_px: int = SIZE, **others) -> Job:
    """Return a job with 30 training and 12 validation images in plain colours; `others` are other fields."""
    train, val = train or plain_split([0, 1, 2] * 10), val or plain_split([0, 1, 2] * 4, seed=1)
    view = View(train.images.shape[1], size_px, MEAN, STD, CPU)
    fields = {"name": "cnn", "n_classes": 3, "view": view, "augment": AUGMENT, "seed": 1, "in_bf16": False, **others}
    return Job(train=train, val=val, settings=settings, **fields)


def tiny_cnn() -> nn.Module:
    """Return the smallest version of the small CNN, with batch normalisation and dropout, always the same weights."""
    torch.manual_seed(1)
    return build_model(3, SIZE, filters=2, padding="same", dense_units=8, dropout=0.25)


def linear_network(bias: tuple[float, ...] = (0, 0, 0)) -> nn.Module:
    """Return a network whose answer to every image is its bias."""
    head = nn.Linear(3 * SIZE * SIZE, 3)
    nn.init.zeros_(head.weight)
    head.bias.data.copy_(torch.tensor(bias))
    return nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=head))


def copy_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
