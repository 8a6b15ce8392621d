"""Nothing in, the smallest networks, images and settings that can be trained out."""

import numpy as np
import torch
from torch import nn

from stages.models.cnn import build_model
from stages.pixels.packed_splits import Pack
from stages.settings.types import Augment, FineTuneSettings, ModelSettings
from stages.training.loop import Task

CPU = torch.device("cpu")
SIZE = 16
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
STILL = 1e-12  # a learning rate that moves nothing
SETTINGS = ModelSettings(
    optimizer="adam",
    lr=0.01,
    epsilon=1e-8,
    weight_decay=0,
    batch_size=10,
    epochs=2,
    phases=[],
    rounds=1,
    schedule="none",
    warmup_epochs=0,
    patience=0,
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
AUGMENT = Augment(crop=True, flip=True, rotation_deg=0, zoom=0, shift=0, colour=0, policy="none")


def change_settings(**changes) -> ModelSettings:
    """Return SETTINGS with some keys changed."""
    return SETTINGS.model_copy(update=changes)


def fine_tune_settings(**changes) -> FineTuneSettings:
    """Return SETTINGS of a network with a backbone, frozen for the first epoch, with some keys changed."""
    values = {**dict(SETTINGS), "frozen_epochs": 1, "backbone_lr": 0.005, "weight_decay": 0.1, **changes}
    return FineTuneSettings(**values)


def plain_pack(labels: list[int], seed: int = 0, size_px: int = SIZE + 2) -> Pack:
    """Return plain colours, one a class, each image a little lighter or darker."""
    rng = np.random.default_rng(seed)
    shades = rng.integers(-25, 26, (len(labels), 1, 1, 3))
    images = np.array(COLOURS)[labels][:, None, None] + shades
    whole = np.broadcast_to(images, (len(labels), size_px, size_px, 3))
    return Pack(np.ascontiguousarray(whole, dtype=np.uint8), np.array(labels))


def noise_pack(n: int, size_px: int = SIZE + 2, seed: int = 5) -> Pack:
    """Return images that say nothing of their labels, which are 0, 1, 2, 0 and so on."""
    rng = np.random.default_rng(seed)
    return Pack(rng.integers(0, 256, (n, size_px, size_px, 3), dtype=np.uint8), np.arange(n) % 3)


def make_task(
    settings: ModelSettings = SETTINGS, train: Pack | None = None, val: Pack | None = None, seed: int = 1, **others
) -> Task:
    """Return a task of 30 training and 12 validation images in plain colours; `others` are further fields of it."""
    fields = {"name": "cnn", "n_classes": 3, "image_size_px": SIZE, "augment": AUGMENT, "device": CPU, **others}
    train, val = train or plain_pack([0, 1, 2] * 10), val or plain_pack([0, 1, 2] * 4, seed=1)
    return Task(train=train, val=val, settings=settings, seed=seed, **fields)


def tiny_cnn() -> nn.Module:
    """Return the small CNN at its smallest, with batch normalisation and dropout, always with the same weights."""
    torch.manual_seed(1)
    return build_model(3, SIZE, filters=2, padding="same", dense_units=8, dropout=0.25)


def linear_network(bias: tuple[float, ...] = (0, 0, 0)) -> nn.Module:
    """Return a network whose answer to every image is its bias."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    nn.init.zeros_(network[1].weight)
    network[1].bias.data.copy_(torch.tensor(bias))
    return network


def copy_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
