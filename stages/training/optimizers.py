"""The optimizer of a training, its learning rate schedule, and the moving average of the weights."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from stages.settings.types import ModelSettings
from stages.training.muon import Muon

NAMES = {"sgd": "momentum"}  # timm's `sgd` uses Nesterov momentum
OPTIONS = {  # other than timm's defaults: fused kernels, and no clipping inside lamb, because `gradient_clip` does it
    "adam": {"fused": True},
    "adamw": {"fused": True},
    "lamb": {"max_grad_norm": None, "always_adapt": True},
}


def build_optimizer(
    network: nn.Module, settings: ModelSettings, n_batches: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Build the optimizer and its schedule, which must be stepped after each batch.

    The parameter groups of the head come first. The backbone's learning rate is `backbone_lr`, or else the head's; it
    follows the same schedule. Biases and normalisation layers have no weight decay.

    Args:
        n_batches: number of batches per epoch.
    Source: timm.optim.create_optimizer_v2; options without a setting keep the optimizer's defaults.
    """
    groups = [
        {**group, "lr": lr}
        for part, lr in ((network.head, settings.lr), (network.backbone, settings.backbone_lr or settings.lr))
        for group in split_weights(part, settings.weight_decay)
    ]
    name, rest = settings.optimizer, {"lr": settings.lr, "momentum": settings.momentum, "eps": settings.epsilon}
    if name == "muon":
        optimizer = Muon(groups, **rest)
    else:
        from timm.optim import create_optimizer_v2  # slow import

        optimizer = create_optimizer_v2(groups, NAMES.get(name, name), **rest, **OPTIONS.get(name, {}))
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(settings, step / n_batches))


def split_weights(part: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two parameter groups: biases and normalisation layers without weight decay, and the other weights."""
    weights = [weight for weight in part.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
    ]


def rate_factor(settings: ModelSettings, done: float) -> float:
    """Return the learning rate at a point of a round, as a fraction of `lr`.

    Args:
        done: number of finished epochs of the round, with fractions.
    Returns:
        The phase's fraction, times the warm-up (linear), times the schedule (cosine: half a wave from 1 down to 0 over
        the epochs after the warm-up). The frozen epochs and the other epochs each have their own warm-up and schedule.
    """
    factor, first = 1.0, 0
    for phase in settings.phases:
        if first <= done < first + phase.epochs:
            factor = phase.lr / settings.lr
        first += phase.epochs
    frozen = settings.frozen_epochs
    done, n_epochs = (done, frozen) if done < frozen else (done - frozen, settings.epochs - frozen)
    warmup = min(settings.warmup_epochs, n_epochs)
    if done < warmup:
        return factor * (0.05 + 0.95 * done / warmup)
    if settings.schedule == "cosine" and n_epochs > warmup:
        factor *= 0.5 * (1 + math.cos(math.pi * (done - warmup) / (n_epochs - warmup)))
    return factor


def build_average(network: nn.Module, settings: ModelSettings):
    """Return timm's moving average of the weights, with a smaller decay at first; None if `ema_decay` is 0."""
    if not settings.ema_decay:
        return None
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network, decay=settings.ema_decay, use_warmup=True, warmup_power=2 / 3)
