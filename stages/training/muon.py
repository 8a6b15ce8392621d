"""Muon: an optimizer that makes the momentum matrices orthogonal, so that a step moves all directions equally.

timm and torch also have Muon, but they compute the orthogonal matrix in bfloat16. On a CPU without bfloat16
instructions, that takes forty times as long as float32.

Source: Jordan 2024, Muon: An optimizer for hidden layers in neural networks; the last four of the Newton-Schulz steps
    of You Jiacheng 2025, as in timm; the size of a step as in Liu et al. 2025, Muon is scalable.
"""

import math
from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.adamw import adamw

STEPS = (
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
BETAS = (0.9, 0.95)  # for AdamW


class Muon(Optimizer):
    """Muon with Nesterov's momentum for matrices and convolutions, AdamW for biases and normalisation layers."""

    # torch wraps these to hide them from its compiler; the wrapper imports the compiler, which takes 1.5 s
    add_param_group, zero_grad = map(unwrap, (Optimizer.add_param_group, Optimizer.zero_grad))
    state_dict, load_state_dict = map(unwrap, (Optimizer.state_dict, Optimizer.load_state_dict))

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float, eps: float) -> None:
        defaults = {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": 0.0}
        super().__init__(groups, {**defaults, "fused": True})  # so that loading a state moves AdamW's steps, too

    @torch.no_grad()
    def step(self) -> None:
        """Update all weights that have a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            self._turn([weight for weight in weights if weight.ndim > 1], group)
            self._adapt([weight for weight in weights if weight.ndim < 2], group)

    def _turn(self, weights: list[torch.Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            if not state:
                state["momentum"] = torch.zeros_like(gradient)
            mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            ahead = gradient.lerp_(mean, group["momentum"])  # Nesterov's; overwrites the gradient, which saves memory
            matrix = orthogonalise(ahead.movedim(1, -1).flatten(1))  # the order of channels_last: nothing is copied
            rate = group["lr"] * 0.2 * math.sqrt(max(matrix.shape))  # the mean square of a step equals AdamW's
            if group["weight_decay"]:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
            rows = weight.movedim(1, -1)
            rows.sub_(matrix.view_as(rows), alpha=rate)

    def _adapt(self, weights: list[torch.Tensor], group: dict[str, Any]) -> None:
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state |= {"step": torch.zeros((), device=weight.device)}
                state |= {name: torch.zeros_like(weight) for name in ("mean", "square")}
        if weights:
            adamw(
                weights,
                [weight.grad for weight in weights],
                *([state[name] for state in states] for name in ("mean", "square")),
                [],
                [state["step"] for state in states],
                fused=group["fused"],
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Return nearly U V^T of the singular value decomposition U S V^T, by four Newton-Schulz steps.

    Each step multiplies the matrix X by a polynomial of the small square matrix X X^T, so the steps use only squares.
    The steps need singular values of at most 1. Others divide X by its norm and take five steps. The root of the norm
    of X X^T is closer to the largest singular value, which saves a step.

    Args:
        matrix: float, shape (n_rows, n_columns).
    Returns:
        float32, same shape.
    """
    is_tall = len(matrix) > matrix.shape[1]
    wide = (matrix.mT if is_tall else matrix).to(torch.float32)
    square = wide @ wide.mT
    size = square.norm().clamp(min=1e-14)  # the square of what X is divided by
    square = square / size
    turn = None  # the identity
    for number, (a, b, c) in enumerate(STEPS, start=1):
        factor = torch.addmm(square, square, square, beta=b, alpha=c)
        factor.diagonal().add_(a)
        turn = factor if turn is None else factor @ turn
        if number < len(STEPS):
            square = factor @ square @ factor
    turned = (turn / size.sqrt()) @ wide
    return turned.mT if is_tall else turned
