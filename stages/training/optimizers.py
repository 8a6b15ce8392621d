"""The optimizer of a training, and its learning rate at each step."""

import math

import torch
from torch import nn

from stages.settings.types import ModelSettings


def build_optimizer(network: nn.Module, settings: ModelSettings) -> torch.optim.Optimizer:
    """Build the optimizer; each parameter group's `scale` is its learning rate as a share of the head's.

    `lr`, `momentum`, `epsilon` and `weight_decay` are the parameters'; all else is the optimizer's own default as
    published. Weight decay is on all weights, norms and biases among them.

    Source: torch.optim; Lamb (You et al. 2019, without clipping: that is `gradient_clip`) and Lion (Chen et al. 2023)
        are timm's.
    """
    ratio = settings.backbone_lr / settings.lr if settings.backbone_lr else 1.0
    groups = [
        {"params": list(network.head.parameters()), "scale": 1.0},
        {"params": list(network.backbone.parameters()), "scale": ratio},
    ]
    common = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    eps, momentum = {"eps": settings.epsilon}, {"momentum": settings.momentum}
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, fused=True, **common, **eps)
        case "adamw":
            return torch.optim.AdamW(groups, fused=True, **common, **eps)
        case "nadam":
            # else its state lies on a GPU after a resume, where each step waits for it
            capturable = next(network.parameters()).is_cuda
            return torch.optim.NAdam(groups, capturable=capturable, **common, **eps)
        case "radam":
            return torch.optim.RAdam(groups, **common, **eps)
        case "rmsprop":
            return torch.optim.RMSprop(groups, **common, **eps, **momentum)
        case "sgd":
            return torch.optim.SGD(groups, **common, **momentum)
    from timm.optim import Lamb, Lion

    if settings.optimizer == "lamb":
        return Lamb(groups, max_grad_norm=None, always_adapt=True, **common, **eps)
    return Lion(groups, **common)


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
