"""The learning rate of each moment, by hand, and every optimizer that the parameters allow."""

import math
from collections import OrderedDict
from typing import get_args

import pytest
import torch
from torch import nn

from stages.settings.types import FineTuneSettings, ModelSettings, Phase
from stages.training.optimizers import build_optimizer, learning_rate, set_learning_rate
from tests.trainings import change_settings

SETTINGS = change_settings(lr=0.5, batch_size=4, epochs=4)
OPTIMIZERS = get_args(ModelSettings.model_fields["optimizer"].annotation)


def _settings(**changes) -> ModelSettings:
    return SETTINGS.model_copy(update=changes)


def _fine_tune(**changes) -> FineTuneSettings:
    return FineTuneSettings(**{**dict(SETTINGS), "frozen_epochs": 0, "backbone_lr": 0.125, **changes})


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(OrderedDict(backbone=nn.Linear(3, 4), head=nn.Linear(4, 2)))


def _rates(settings: ModelSettings) -> list[float]:
    return [learning_rate(settings, epoch, 0.0) for epoch in range(settings.epochs)]


def test_without_phases_warm_up_and_schedule_the_rate_is_lr():
    assert _rates(SETTINGS) == [0.5, 0.5, 0.5, 0.5]


def test_phases_name_the_rates_of_the_first_epochs_and_lr_that_of_the_rest():
    settings = _settings(epochs=5, phases=[Phase(epochs=2, lr=0.25), Phase(epochs=1, lr=0.125)])
    assert _rates(settings) == [0.25, 0.25, 0.125, 0.5, 0.5]
    assert learning_rate(settings, 1, 0.99) == 0.25


def test_cosine_falls_by_half_a_wave_over_the_epochs():
    # (1 + cos(pi * epoch / 4)) / 2, times 0.5
    root = math.sqrt(2) / 2
    assert _rates(_settings(schedule="cosine")) == pytest.approx(
        [0.5, 0.25 * (1 + root), 0.25, 0.25 * (1 - root)], rel=1e-12
    )


def test_cosine_also_falls_within_an_epoch_and_ends_at_0():
    settings = _settings(schedule="cosine")
    assert learning_rate(settings, 1, 0.5) == pytest.approx(0.25 * (1 + math.cos(1.5 * math.pi / 4)), rel=1e-12)
    assert learning_rate(settings, 3, 1 - 1e-6) == pytest.approx(0, abs=1e-9)


def test_warm_up_rises_in_a_line_from_a_twentieth():
    settings = _settings(warmup_epochs=2)
    assert learning_rate(settings, 0, 0.0) == pytest.approx(0.025, rel=1e-12)
    assert learning_rate(settings, 1, 0.0) == pytest.approx(0.5 * 0.525, rel=1e-12)  # 0.05 + 0.95 / 2
    assert learning_rate(settings, 1, 0.5) == pytest.approx(0.5 * 0.7625, rel=1e-12)  # 0.05 + 0.95 * 3 / 4
    assert learning_rate(settings, 2, 0.0) == 0.5


def test_cosine_begins_where_the_warm_up_ends():
    settings = _settings(epochs=5, schedule="cosine", warmup_epochs=1)
    assert _rates(settings)[1] == 0.5
    assert _rates(settings)[3] == pytest.approx(0.25, rel=1e-12)  # (3 - 1) / (5 - 1): half of the wave


def test_warm_up_over_all_epochs_leaves_no_schedule():
    settings = _settings(schedule="cosine", warmup_epochs=4)
    assert learning_rate(settings, 3, 0.999) == pytest.approx(0.5 * (0.05 + 0.95 * 3.999 / 4), rel=1e-12)


def test_warm_up_and_schedule_scale_the_rate_of_the_phase():
    settings = _settings(phases=[Phase(epochs=3, lr=0.25)], schedule="cosine", warmup_epochs=1)
    assert _rates(settings)[0] == pytest.approx(0.25 * 0.05, rel=1e-12)
    assert _rates(settings)[2] == pytest.approx(0.25 * 0.5 * (1 + math.cos(math.pi / 3)), rel=1e-12)


def test_from_scratch_all_parameters_learn_at_the_networks_rate():
    network = _network()
    (group,) = build_optimizer(network, SETTINGS).param_groups
    assert group["scale"] == 1
    assert len(group["params"]) == len(list(network.parameters())) == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_backbone_learns_at_its_share_of_the_rate(name):
    network = _network()
    optimizer = build_optimizer(network, _fine_tune(optimizer=name))
    set_learning_rate(optimizer, 0.25)
    # backbone_lr / lr = 0.125 / 0.5 = a quarter
    rate = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert {rate[id(weight)] for weight in network.head.parameters()} == {0.25}
    assert {rate[id(weight)] for weight in network.backbone.parameters()} == {0.0625}


@pytest.mark.parametrize("settings", [SETTINGS, _fine_tune()], ids=["from scratch", "fine-tuned"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_a_step_that_changes_all_weights_and_lowers_the_loss(name, settings):
    network = _network()
    optimizer = build_optimizer(network, settings.model_copy(update={"optimizer": name, "weight_decay": 0.01}))
    before = [weight.detach().clone() for weight in network.parameters()]
    inputs, labels = torch.eye(3), torch.tensor([0, 1, 0])

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(network(inputs), labels)

    first = loss()
    for _ in range(10):
        set_learning_rate(optimizer, 0.01)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert all(weight.isfinite().all() for weight in network.parameters())
    assert loss() < first


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_epsilon_is_the_one_of_the_settings(name):
    # Adam's first step is lr * gradient / (|gradient| + epsilon): with a gradient of 1 and an epsilon of 1, lr / 2
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    optimizer = build_optimizer(network, _settings(optimizer=name, epsilon=1.0))
    network(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert network.weight.item() == pytest.approx(-0.25, rel=1e-6)


def test_weight_decay_is_the_one_of_the_settings():
    # AdamW shrinks a weight without gradient by lr * weight_decay: 8 * (1 - 0.5 * 0.25) = 7
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 8.0)
    network.weight.grad = torch.zeros(1, 1)
    build_optimizer(network, _settings(optimizer="adamw", weight_decay=0.25)).step()
    assert network.weight.item() == pytest.approx(7, rel=1e-6)
