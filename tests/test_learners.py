"""Steps of very small networks: against torch's own, in parts that fit into memory, and the average of the weights."""

import pytest
import torch
from stages.shared import learners
from torch import nn
from torch.nn import functional

from stages.runtime.errors import UserError
from stages.settings.types import ModelSettings
from stages.training.learner import Learner, copy_weights
from stages.training.loop import validate
from stages.training.optimizers import learning_rate
from stages.training.processes import ALONE
from tests.trainings import CPU, change_settings, copy_state, fine_tune_settings, make_task, same_bits, tiny_cnn

CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 4.0])
LABELS = torch.tensor([0, 1, 2, 3, 0, 0, 1, 3])
RATE = 0.1


class _SmallMemory(nn.Module):
    """Passes images on, and stands for a device that holds so many of them."""

    def __init__(self, n_images: int):
        super().__init__()
        self.n_images = n_images
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self.n_images:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return images


def _network(n_images_at_a_time: int = 10**6, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        _SmallMemory(n_images_at_a_time), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 4)
    )


def _images(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(2))


def _shares() -> torch.Tensor:
    """Return targets as mixing makes them: 0.75 of the image's own class, 0.25 of the one before it."""
    one_hot = functional.one_hot(LABELS, 4).float()
    return 0.75 * one_hot + 0.25 * one_hot.roll(1, 0)


def _settings(**changes) -> ModelSettings:
    return change_settings(optimizer="sgd", **changes)


def _learner(network: nn.Module, settings: ModelSettings, class_weights: torch.Tensor | None = None) -> Learner:
    learner = Learner(network, settings, class_weights, ALONE, CPU)
    learner.start_epoch(0)
    return learner


def _assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], rtol: float = 1e-6) -> None:
    """Assert that each tensor is the same but for rounding, in proportion to its largest number."""
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=rtol * tensor.abs().max().item())


@pytest.mark.parametrize("smoothing", [0, 0.2])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("targets", [LABELS, _shares()], ids=["labels", "shares"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_that_of_torchs_own_mean_cross_entropy(monkeypatch, precision, targets, class_weights, smoothing):
    monkeypatch.setattr(learners, "computes_bf16", lambda _: True)  # or emulates it: slow, but the same numbers
    network, own = _network(), _network()
    learner = _learner(network, _settings(label_smoothing=smoothing, precision=precision), class_weights)
    loss, logits = learner.step(_images(), targets, RATE)

    optimizer = torch.optim.SGD(own.parameters(), lr=RATE, momentum=0.9, nesterov=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        own_logits = own(_images()).float()
    own_loss = functional.cross_entropy(own_logits, targets, class_weights, label_smoothing=smoothing)
    own_loss.backward()
    optimizer.step()
    assert loss.item() == pytest.approx(own_loss.item() * 8, rel=1e-6)
    torch.testing.assert_close(logits.float(), own_logits)
    assert not logits.requires_grad
    assert not loss.requires_grad
    _assert_close(own.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("able", "precision", "expected"), [(True, "bf16", True), (False, "bf16", False), (True, "fp32", False)]
)
def test_bf16_is_used_where_it_is_asked_for_and_the_device_has_it(monkeypatch, able, precision, expected):
    monkeypatch.setattr(learners, "computes_bf16", lambda _: able)
    learner = _learner(_network(), _settings(precision=precision))
    with learner.autocast():
        assert torch.is_autocast_enabled("cpu") == expected
    _, logits = learner.step(_images(), LABELS, RATE)
    assert (logits.dtype == torch.bfloat16) == expected


@pytest.mark.parametrize("limit", [2, 3, 4, 7])
@pytest.mark.parametrize(
    ("targets", "class_weights", "smoothing", "clip"),
    [
        (LABELS, None, 0, 0),
        (LABELS, CLASS_WEIGHTS, 0, 0),
        (LABELS, CLASS_WEIGHTS, 0.2, 0),
        (_shares(), None, 0.2, 0),
        (_shares(), CLASS_WEIGHTS, 0, 0),
        (LABELS, None, 0, 0.01),
    ],
    ids=["plain", "weighted", "weighted and smoothed", "mixed and smoothed", "mixed and weighted", "clipped"],
)
def test_a_batch_that_does_not_fit_is_learnt_in_parts_to_the_same_step(
    targets, class_weights, smoothing, clip, limit, capsys
):
    settings = _settings(label_smoothing=smoothing, gradient_clip=clip)
    whole, parted = _learner(_network(), settings, class_weights), _learner(_network(limit), settings, class_weights)
    for step in range(3):
        loss, logits = whole.step(_images() + step, targets, RATE)
        its_loss, its_logits = parted.step(_images() + step, targets, RATE)
        torch.testing.assert_close(its_logits, logits, rtol=0, atol=1e-5)
        assert its_loss.item() == pytest.approx(loss.item(), rel=1e-5)
        if step == 0:
            _assert_close(whole.network.state_dict(), parted.network.state_dict())
    assert max(parted.network[0].sizes[-parted.n_parts :]) <= limit
    said = capsys.readouterr().out
    n_parts = {2: 4, 3: 4, 4: 2, 7: 2}[limit]  # of eight images
    assert parted.n_parts == n_parts
    assert f"out of memory on cpu: batches of 8 are now learnt in {n_parts} parts; batch normalisation" in said
    assert said.count("\n") == {2: 1, 4: 2}[n_parts]  # once for each doubling, and not again in later steps


def test_a_batch_that_does_not_fit_even_by_twos_is_a_users_mistake_with_what_to_do():
    learner = _learner(_network(1), _settings())
    before = copy_state(learner.network.state_dict())
    with pytest.raises(UserError, match=r"^2 images of 6 px at a time do not fit into the memory of cpu; lower batch"):
        learner.step(_images(), LABELS, RATE)
    assert same_bits(learner.network.state_dict(), before)


@pytest.mark.parametrize("n_images", range(2, 13))
def test_no_part_has_an_image_alone(n_images):
    # batch normalisation learns nothing from one image; an epoch's last batch may be small
    learner = _learner(_network(3), _settings())
    learner.step(_images(12), LABELS.repeat(2)[:12], RATE)
    assert learner.n_parts == 4
    sizes = learner.network[0].sizes = []
    learner.step(_images(n_images), LABELS.repeat(2)[:n_images], RATE)
    assert sum(sizes) == n_images
    assert min(sizes) >= 2
    assert max(sizes) <= 3


def test_gradients_of_one_step_do_not_reach_the_next():
    once, twice = _learner(_network(), _settings()), _learner(_network(), _settings())
    once.step(_images() + 1, LABELS, 0.0)
    twice.step(_images(), LABELS, 0.0)
    twice.step(_images() + 1, LABELS, 0.0)
    for weight, other in zip(once.network.parameters(), twice.network.parameters(), strict=True):
        assert torch.equal(weight.grad, other.grad)


@pytest.mark.parametrize("clip", [0.01, 0.02])
def test_a_clipped_gradient_has_the_norm_that_is_asked_for(clip):
    network = _network()
    _learner(network, _settings(gradient_clip=clip)).step(_images(), LABELS, RATE)
    norm = torch.cat([weight.grad.flatten() for weight in network.parameters()]).norm().item()
    assert norm == pytest.approx(clip, rel=1e-4)


def test_without_an_average_the_network_itself_is_the_best():
    learner = _learner(_network(), _settings())
    assert learner.average is None
    assert learner.best_network() is learner.network


def test_the_average_follows_the_weights_fast_at_first_and_then_by_its_decay():
    learner = _learner(_network(), _settings(ema_decay=0.3))
    weights, averages = [], []
    for step in range(4):
        learner.step(_images() + step, LABELS, RATE)
        weights.append(learner.network[1].weight.detach().clone())
        averages.append(learner.best_network()[1].weight.detach().clone())
    # the warm-up's decay after n steps is 1 - n ** (-2/3): 0, 0.370, 0.519 and so on, but 0.3 at most
    expected = weights[0]
    assert torch.equal(averages[0], expected)
    for weight, average in zip(weights[1:], averages[1:], strict=True):
        expected = 0.3 * expected + 0.7 * weight
        torch.testing.assert_close(average, expected, rtol=0, atol=1e-6)


def test_a_decay_that_is_slow_is_reached_by_the_warm_up():
    learner = _learner(_network(), _settings(ema_decay=0.999))
    learner.step(_images(), LABELS, RATE)
    first = learner.network[1].weight.detach().clone()
    learner.step(_images(), LABELS, RATE)
    expected = (1 - 2 ** (-2 / 3)) * first + 2 ** (-2 / 3) * learner.network[1].weight.detach()
    torch.testing.assert_close(learner.best_network()[1].weight.detach(), expected, rtol=0, atol=1e-6)


def test_the_average_is_what_is_validated_and_kept():
    task = make_task(change_settings(ema_decay=0.5))
    learner = _learner(tiny_cnn(), task.settings)
    images, labels = torch.randn(12, 3, 16, 16), torch.arange(12) % 3
    for _ in range(3):
        learner.step(images, labels, RATE)
    placed = torch.from_numpy(task.val.images), torch.from_numpy(task.val.labels)
    averaged = validate(learner, task, placed)
    plain = Learner(learner.best_network(), change_settings(), None, ALONE, CPU)
    assert validate(plain, task, placed) == averaged
    learner.average = None
    assert validate(learner, task, placed) != averaged


def test_a_learner_goes_on_from_its_state_as_if_nothing_had_been():
    settings = change_settings(ema_decay=0.5, optimizer="adamw")
    steady, first = _learner(_network(), settings), _learner(_network(), settings)
    for learner in (steady, first):
        learner.step(_images(), LABELS, RATE)
    other = _learner(_network(seed=3), settings)
    other.load_state_dict(first.state_dict())
    for learner in (steady, other):
        learner.step(_images() + 1, LABELS, RATE)
    assert same_bits(dict(steady.network.state_dict()), dict(other.network.state_dict()))
    assert same_bits(steady.best_network().state_dict(), other.best_network().state_dict())
    assert (steady.n_steps, other.n_steps) == (2, 2)


def test_the_parts_that_a_device_needs_are_remembered_in_the_state():
    learner = _learner(_network(3), _settings())
    learner.step(_images(), LABELS, RATE)
    again = _learner(_network(3), _settings())
    again.load_state_dict(learner.state_dict())
    again.step(_images(), LABELS, RATE)
    assert again.network[0].sizes == [2, 2, 2, 2]


def test_the_backbone_learns_after_its_frozen_epochs_at_its_share_of_the_rate():
    settings = fine_tune_settings(optimizer="sgd", weight_decay=0, lr=0.01, backbone_lr=0.0025)
    learner = Learner(tiny_cnn(), settings, None, ALONE, CPU)
    learner.start_epoch(0)
    assert not any(weight.requires_grad for weight in learner.network.backbone.parameters())
    assert all(weight.requires_grad for weight in learner.network.head.parameters())
    learner.start_epoch(1)
    assert all(weight.requires_grad for weight in learner.network.parameters())
    learner.step(torch.randn(6, 3, 16, 16), torch.arange(6) % 3, learning_rate(settings, 1, 0.0))
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([0.01, 0.0025])


def test_copied_weights_are_apart_from_the_network_and_fill_the_memory_that_is_there():
    network = _network()
    copied = copy_weights(network)
    places = {name: tensor.data_ptr() for name, tensor in copied.items()}
    before = copy_state(network.state_dict())
    with torch.no_grad():
        network[1].weight += 1
    assert same_bits(copied, before)
    assert copy_weights(network, into=copied) is copied
    assert same_bits(copied, dict(network.state_dict()))
    assert {name: tensor.data_ptr() for name, tensor in copied.items()} == places
