"""The learning rate of each moment, and the first steps of the optimizers, by hand."""

import math
from collections import OrderedDict
from typing import get_args

import pytest
import torch
from torch import nn

from stages.settings.types import ModelSettings, Phase
from stages.training.optimizers import build_optimizer, learning_rate, set_learning_rate
from tests.trainings import change_settings

OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)


def settings(**changes) -> ModelSettings:
    return change_settings(**{"lr": 0.5, "epochs": 4, **changes})


def rates(given: ModelSettings) -> list[float]:
    return [learning_rate(given, epoch, 0.0) for epoch in range(given.epochs)]


def test_without_phases_warm_up_and_schedule_the_rate_is_lr():
    assert rates(settings()) == [0.5, 0.5, 0.5, 0.5]


def test_phases_name_the_rates_of_the_first_epochs_and_lr_that_of_the_rest():
    given = settings(epochs=5, phases=[Phase(epochs=2, lr=0.25), Phase(epochs=1, lr=0.125)])
    assert rates(given) == [0.25, 0.25, 0.125, 0.5, 0.5]
    assert learning_rate(given, 1, 0.99) == 0.25


def test_cosine_falls_by_half_a_wave_over_the_epochs_and_within_them():
    # (1 + cos(pi * epoch / 4)) / 2, times 0.5
    root, given = math.sqrt(2) / 2, settings(schedule="cosine")
    assert rates(given) == pytest.approx([0.5, 0.25 * (1 + root), 0.25, 0.25 * (1 - root)], rel=1e-12)
    assert learning_rate(given, 1, 0.5) == pytest.approx(0.25 * (1 + math.cos(1.5 * math.pi / 4)), rel=1e-12)
    assert learning_rate(given, 3, 1 - 1e-6) == pytest.approx(0, abs=1e-9)


def test_warm_up_rises_in_a_line_from_a_twentieth_to_where_the_cosine_begins():
    given = settings(epochs=6, warmup_epochs=2, schedule="cosine")
    assert learning_rate(given, 0, 0.0) == pytest.approx(0.5 * 0.05, rel=1e-12)
    assert learning_rate(given, 1, 0.5) == pytest.approx(0.5 * 0.7625, rel=1e-12)  # 0.05 + 0.95 * 3 / 4
    assert rates(given)[2] == 0.5
    assert rates(given)[4] == pytest.approx(0.25, rel=1e-12)  # (4 - 2) / (6 - 2): half of the wave
    whole = settings(warmup_epochs=4, schedule="cosine")
    assert learning_rate(whole, 3, 0.5) == pytest.approx(0.5 * (0.05 + 0.95 * 3.5 / 4), rel=1e-12)


def test_warm_up_and_schedule_scale_the_rate_of_the_phase():
    found = rates(settings(phases=[Phase(epochs=3, lr=0.25)], schedule="cosine", warmup_epochs=1))
    assert found[0] == pytest.approx(0.25 * 0.05, rel=1e-12)
    assert found[2] == pytest.approx(0.25 * 0.5 * (1 + math.cos(math.pi / 3)), rel=1e-12)


def build_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(OrderedDict(backbone=nn.Linear(3, 4), head=nn.Linear(4, 2)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_the_backbone_at_its_share_of_the_rate(name):
    network = build_network()
    optimizer = build_optimizer(network, settings(optimizer=name, backbone_lr=0.125, weight_decay=0.01))
    before = [weight.detach().clone() for weight in network.parameters()]
    inputs, labels = torch.eye(3), torch.tensor([0, 1, 0])
    losses = []
    for _ in range(10):
        set_learning_rate(optimizer, 0.01)
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(inputs), labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert not any(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    # backbone_lr / lr = 0.125 / 0.5 = a quarter
    rate = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert {rate[id(weight)] for weight in network.head.parameters()} == {0.01}
    assert {rate[id(weight)] for weight in network.backbone.parameters()} == {0.0025}


def steps(gradients: list[float], first: float = 0.0, **changes) -> float:
    """Return how far a weight moves, in learning rates, with these gradients one after another."""
    network = nn.Sequential(OrderedDict(backbone=nn.Flatten(), head=nn.Linear(1, 1, bias=False)))
    nn.init.constant_(network.head.weight, first)
    optimizer = build_optimizer(network, settings(**changes))
    for gradient in gradients:
        network.head.weight.grad = torch.tensor([[float(gradient)]])
        optimizer.step()
    return (first - network.head.weight.item()) / 0.5


@pytest.mark.parametrize(
    ("changes", "gradients", "expected"),
    [
        ({"optimizer": "sgd"}, [1, 1], 2),
        ({"optimizer": "sgd", "momentum": 0.5}, [1, 1], 1 + 1.5),
        # the mean square is 0.01 after the first step, 0.99 * 0.01 + 0.01 after the second
        ({"optimizer": "rmsprop"}, [2, 2], 1 / math.sqrt(0.01) + 1 / math.sqrt(0.0199)),
        ({"optimizer": "rmsprop", "momentum": 0.5}, [2, 2], 10 + 0.5 * 10 + 1 / math.sqrt(0.0199)),
        # all the same in a first step: gradient / (|gradient| + epsilon); clipped to 1 it would be 1 / 101
        ({"optimizer": "lamb", "epsilon": 100}, [100], 0.5),
        ({"optimizer": "adam", "epsilon": 1}, [1], 0.5),
        ({"optimizer": "adamw", "epsilon": 1}, [1], 0.5),
        ({"optimizer": "lion"}, [100], 1),  # the sign alone
    ],
    ids=str,
)
def test_the_first_steps_are_those_of_the_parameters_and_of_nothing_else(changes, gradients, expected):
    assert steps(gradients, **changes) == pytest.approx(expected, rel=1e-4)


def test_adamw_shrinks_a_weight_by_the_rate_times_its_decay():
    assert steps([0.0], first=8.0, optimizer="adamw", weight_decay=0.25) == pytest.approx(8 * 0.25, rel=1e-6)


def test_lamb_steps_in_proportion_to_the_weights_also_without_decay():
    # Adam's first step with an epsilon of 1 is 1 / (1 + 1); times the ratio of the norms, 8 / 0.5
    assert steps([1.0], first=8.0, optimizer="lamb", epsilon=1.0) == pytest.approx(8, rel=1e-5)
