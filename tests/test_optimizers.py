"""Learning rates at each step, and the first steps of the optimizers, calculated by hand."""

import math
from collections import OrderedDict
from typing import get_args

import pytest
import torch
from timm.optim.muon import _COEFFICIENTS
from torch import nn
from torch.nn import functional

from stages.settings.types import ModelSettings, Phase
from stages.training.muon import orthogonalise
from stages.training.optimizers import build_optimizer, rate_factor
from tests.trainings import change_settings

OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)


def settings(**changes) -> ModelSettings:
    return change_settings(**{"lr": 0.5, "epochs": 4, **changes})


def rates(given: ModelSettings) -> list[float]:
    """Return the learning rates in the optimizer, with two batches per epoch."""
    optimizer, schedule = build_optimizer(build_network(), given, n_batches=2)
    found = []
    for _ in range(2 * given.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_phases_name_the_rates_of_the_first_epochs_and_lr_that_of_the_rest():
    assert rates(settings(epochs=2)) == [0.5] * 4
    given = settings(epochs=5, phases=[Phase(epochs=n, lr=lr) for n, lr in ((2, 0.25), (1, 0.125), (1, 0.0625))])
    assert rates(given) == [0.25] * 4 + [0.125] * 2 + [0.0625] * 2 + [0.5] * 2


def test_cosine_falls_by_half_a_wave_from_batch_to_batch():
    expected = [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    assert rates(settings(schedule="cosine")) == pytest.approx(expected, rel=1e-12)
    assert rate_factor(settings(schedule="cosine"), 4) == 0


def test_warm_up_rises_in_a_line_from_a_twentieth_to_where_the_cosine_begins():
    found = rates(settings(epochs=6, warmup_epochs=2, schedule="cosine"))
    # 0.05 + 0.95 * step / 4, then half a wave over four epochs
    assert found[:5] == pytest.approx([0.025, 0.14375, 0.2625, 0.38125, 0.5], rel=1e-12)
    assert found[8] == pytest.approx(0.25, rel=1e-12)
    both = settings(epochs=8, frozen_epochs=2, warmup_epochs=2, schedule="cosine")
    assert rates(both) == pytest.approx(found[:4] + found, rel=1e-12)  # the frozen epochs have their own


def test_warm_up_and_schedule_scale_the_rate_of_the_phase():
    found = rates(settings(phases=[Phase(epochs=3, lr=0.25)], schedule="cosine", warmup_epochs=1))
    assert found[0] == pytest.approx(0.25 * 0.05, rel=1e-12)
    assert found[4] == pytest.approx(0.25 * 0.5 * (1 + math.cos(math.pi / 3)), rel=1e-12)


def build_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(OrderedDict(backbone=nn.Linear(3, 4), head=nn.Linear(4, 2)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_the_backbone_at_its_share_of_the_rate(name):
    network = build_network()
    given = settings(optimizer=name, lr=0.01, backbone_lr=0.0025, weight_decay=0.01, momentum=0.5)
    optimizer, schedule = build_optimizer(network, given, 1)
    before = [weight.detach().clone() for weight in network.parameters()]
    inputs, labels = torch.eye(3), torch.tensor([0, 1, 0])
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(inputs), labels))
        losses[-1].backward()
        optimizer.step()
        schedule.step()
    assert losses[-1] < losses[0]
    assert not any(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    groups = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    for part, lr in ((network.head, 0.01), (network.backbone, 0.0025)):
        assert [groups[id(part.weight)][key] for key in ("lr", "weight_decay")] == [lr, 0.01]
        assert [groups[id(part.bias)][key] for key in ("lr", "weight_decay")] == [lr, 0]


def steps(gradients: list[float], first: float = 0.0, **changes) -> float:
    """Return how far a weight moves, in units of the learning rate, for a sequence of gradients."""
    network = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=nn.Linear(1, 1, bias=False)))
    nn.init.constant_(network.head.weight, first)
    optimizer, _ = build_optimizer(network, settings(**changes), 1)
    for gradient in gradients:
        network.head.weight.grad = torch.tensor([[float(gradient)]])
        optimizer.step()
    return (first - network.head.weight.item()) / 0.5


@pytest.mark.parametrize(
    ("changes", "gradients", "expected"),
    [
        ({"optimizer": "sgd"}, [1, 1], 2),
        ({"optimizer": "sgd", "momentum": 0.5}, [1, 1], 1 + 1.5),
        # as shares of the gradient's square, the mean is 0.1 after the first step, 0.9 * 0.1 + 0.1 after the second
        ({"optimizer": "rmsprop"}, [2, 2], 1 / math.sqrt(0.1) + 1 / math.sqrt(0.19)),
        ({"optimizer": "rmsprop", "momentum": 0.5}, [2, 2], 1.5 / math.sqrt(0.1) + 1 / math.sqrt(0.19)),
        # all the same in a first step: gradient / (|gradient| + epsilon); clipped to 1 it would be 1 / 101
        ({"optimizer": "lamb", "epsilon": 100}, [100], 0.5),
        ({"optimizer": "adam", "epsilon": 1}, [1], 0.5),
        ({"optimizer": "adamw", "epsilon": 1}, [1], 0.5),
        ({"optimizer": "lion"}, [100], 1),  # only the sign
    ],
    ids=str,
)
def test_the_first_steps_are_those_of_the_parameters_and_of_nothing_else(changes, gradients, expected):
    assert steps(gradients, **changes) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_shrinks_a_weight_by_the_rate_times_itself(name):
    assert steps([0.0], first=8.0, optimizer=name, weight_decay=0.25) == pytest.approx(8 * 0.25, rel=1e-6)


def test_lamb_steps_in_proportion_to_the_weights_also_without_decay():
    # Adam's first step with an epsilon of 1 is 1 / (1 + 1); times the ratio of the norms, 8 / 0.5
    assert steps([1.0], first=8.0, optimizer="lamb", epsilon=1.0) == pytest.approx(8, rel=1e-5)


def test_muon_turns_a_matrix_of_gradients_into_an_orthogonal_one_of_the_size_of_an_adam_step():
    for shape in ((6, 3), (3, 6), (4, 4)):
        left, _, right = torch.linalg.svd(
            torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), full_matrices=False
        )
        values = torch.logspace(2, 0, min(shape), dtype=torch.float64)
        found = orthogonalise(left @ torch.diag(values) @ right)
        assert torch.linalg.norm(found - left @ right) < 0.2 * math.sqrt(min(shape))
        values /= values.pow(4).sum() ** 0.25
        for a, b, c in _COEFFICIENTS["quintic"][1:]:
            values = a * values + b * values**3 + c * values**5
        torch.testing.assert_close(found.double(), left @ torch.diag(values) @ right, rtol=0, atol=3e-5)
    network = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=nn.Linear(8, 4)))
    before = network.head.weight.detach().clone()
    optimizer, _ = build_optimizer(network, settings(optimizer="muon", lr=0.01, momentum=0.9), 1)
    network(torch.randn(5, 8, generator=torch.Generator().manual_seed(2))).square().sum().backward()
    optimizer.step()
    moved = network.head.weight.detach() - before
    assert moved.norm() == pytest.approx(0.01 * 0.2 * math.sqrt(8) * 2, rel=0.15)  # four singular values near 1


def test_muon_steps_along_nesterov_momentum_as_torch_does():
    generator = torch.Generator().manual_seed(1)
    network = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=nn.Linear(8, 1, bias=False)))
    ours, theirs = network.head.weight, nn.Parameter(torch.zeros(1, 8))
    optimizer, _ = build_optimizer(network, settings(optimizer="muon", lr=0.01, momentum=0.7), 1)
    torchs = torch.optim.Muon([theirs], 0.01, weight_decay=0, momentum=0.7, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):  # a single row: its direction is that of the momentum
        ours.grad = torch.randn(1, 8, generator=generator)
        theirs.grad, before = ours.grad.clone(), (ours.detach().clone(), theirs.detach().clone())
        optimizer.step()
        torchs.step()
        moved, expected = ours.detach() - before[0], theirs.detach() - before[1]
        assert functional.cosine_similarity(moved, expected).item() == pytest.approx(1, abs=1e-4)  # theirs is in bf16


def test_muon_leaves_biases_to_adamw():
    network = build_network()
    bias = nn.Parameter(network.head.bias.detach().clone())
    optimizer, _ = build_optimizer(network, settings(optimizer="muon", weight_decay=0.1, epsilon=0.1), 1)
    adamw = torch.optim.AdamW([bias], lr=0.5, betas=(0.9, 0.95), eps=0.1, weight_decay=0)
    for gradient in (1.0, -0.5):
        network.head.bias.grad = bias.grad = torch.full((2,), gradient)
        optimizer.step()
        adamw.step()
    torch.testing.assert_close(network.head.bias, bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_the_state_of_a_fused_optimizer_follows_its_weights_to_their_device(name):
    given = settings(optimizer=name)
    state = step_once(build_network(), given).state_dict()  # as a checkpoint gives it: in memory
    network = build_network().to("meta")  # stands for a GPU
    optimizer, _ = build_optimizer(network, given, 1)
    optimizer.load_state_dict(state)
    assert {each.device.type for state in optimizer.state.values() for each in state.values()} == {"meta"}
    if name == "muon":  # torch's own optimizers refuse to step there
        state = step_once(network, given).state
        assert {each.device.type for its in state.values() for each in its.values()} == {"meta"}


def step_once(network: nn.Module, given: ModelSettings) -> torch.optim.Optimizer:
    optimizer, _ = build_optimizer(network, given, 1)
    network(torch.eye(3, device=network.head.weight.device)).sum().backward()
    optimizer.step()
    return optimizer
