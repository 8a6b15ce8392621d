"""A network and its settings in, the optimizer and the learning rate of each step out."""

import math

import torch
from torch import nn

from stages.settings.types import FineTuneSettings, ModelSettings


def build_optimizer(network: nn.Module, settings: ModelSettings) -> torch.optim.Optimizer:
    """Build the optimizer; each parameter group's `scale` is its learning rate as a share of the network's.

    Adam and AdamW are torch's, fused; the others come from timm's factory (its SGD has Nesterov momentum of 0.9).
    """
    groups = _parameter_groups(network, settings)
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, eps=settings.epsilon, fused=True, **common)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, eps=settings.epsilon, fused=True, **common)
    from timm.optim import create_optimizer_v2

    eps = {} if settings.optimizer in ("sgd", "lion") else {"eps": settings.epsilon}
    return create_optimizer_v2(groups, opt=settings.optimizer, **common, **eps)


def _parameter_groups(network: nn.Module, settings: ModelSettings) -> list[dict]:
    if not isinstance(settings, FineTuneSettings):
        return [{"params": list(network.parameters()), "scale": 1.0}]
    return [
        {"params": list(network.head.parameters()), "scale": 1.0},
        {"params": list(network.backbone.parameters()), "scale": settings.backbone_lr / settings.lr},
    ]


def learning_rate(settings: ModelSettings, epoch: int, progress: float) -> float:
    """Return the learning rate at a moment of a round.

    Args:
        epoch: of the round, from 0; the phases name the rates of the first ones, `lr` is the rate of the rest.
        progress: the share of this epoch's steps that are done, in [0, 1).
    Returns:
        The phase's rate, times the warm-up (linear, over whole epochs) and the schedule (cosine: half a wave from 1
        down to 0 over what follows the warm-up).
    """
    rate, first = settings.lr, 0
    for phase in settings.phases:
        if first <= epoch < first + phase.epochs:
            rate = phase.lr
        first += phase.epochs
    done = epoch + progress
    if done < settings.warmup_epochs:
        return rate * (0.05 + 0.95 * done / settings.warmup_epochs)
    if settings.schedule == "cosine":
        after = (done - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
        rate *= 0.5 * (1 + math.cos(math.pi * after))
    return rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
