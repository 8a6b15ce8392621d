"""Steps of very small networks: against torch's own, in parts that fit into memory, and the average of the weights."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional

from stages.runtime.process import exit_cleanly
from stages.settings.types import ModelSettings
from stages.training import learner as learner_module
from stages.training.learner import Learner, copy_weights
from stages.training.processes import ALONE
from tests.trainings import CPU, change_settings, copy_state, same_bits

CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 4.0])
LABELS = torch.tensor([0, 1, 2, 3, 0, 0, 1, 3])
# as mixing makes them: 0.75 of the image's own class, 0.25 of the one before it
SHARES = 0.75 * functional.one_hot(LABELS, 4).float() + 0.25 * functional.one_hot(LABELS, 4).float().roll(1, 0)
RATE = 0.1


class SmallMemory(nn.Module):
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


def build_network(n_images_at_a_time: int = 10**6) -> nn.Module:
    torch.manual_seed(1)
    backbone = nn.Sequential(SmallMemory(n_images_at_a_time), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(4 * 4 * 4, 4)))


def images(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(2))


def sgd(**changes) -> ModelSettings:
    return change_settings(optimizer="sgd", **changes)


def start(network: nn.Module, settings: ModelSettings, class_weights: torch.Tensor | None = None) -> Learner:
    learner = Learner(network, settings, class_weights, ALONE, CPU)
    learner.start_epoch(0)
    return learner


def assert_close(one: nn.Module, other: nn.Module) -> None:
    """Assert that all weights are the same but for rounding, in proportion to the largest number of each."""
    for name, tensor in one.state_dict().items():
        atol = 1e-6 * tensor.abs().max().item()
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=atol)


CASES = [
    (LABELS, None, {"label_smoothing": 0.2}),
    (LABELS, CLASS_WEIGHTS, {"gradient_clip": 0.01}),
    (SHARES, CLASS_WEIGHTS, {"label_smoothing": 0.2}),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("targets", "class_weights", "changes"), CASES, ids=["smoothed", "weighted", "mixed"])
def test_a_step_is_that_of_torchs_own_mean_cross_entropy(monkeypatch, targets, class_weights, changes, precision):
    monkeypatch.setattr(learner_module, "computes_bf16", lambda _: True)  # or emulates it: slow, but the same numbers
    network, own = build_network(), build_network()
    learner = start(network, sgd(**changes, precision=precision), class_weights)
    loss, logits = learner.step(images(), targets, RATE)

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        own_logits = own(images()).float()
    smoothing = changes.get("label_smoothing", 0)
    own_loss = functional.cross_entropy(own_logits, targets, class_weights, label_smoothing=smoothing)
    own_loss.backward()
    if clip := changes.get("gradient_clip"):
        nn.utils.clip_grad_norm_(own.parameters(), clip)
    torch.optim.SGD(own.parameters(), lr=RATE).step()
    assert loss.item() == pytest.approx(own_loss.item() * 8, rel=1e-6)
    assert (logits.dtype == torch.bfloat16) == (precision == "bf16")
    torch.testing.assert_close(logits.float(), own_logits)
    assert_close(own, network)


def test_bf16_is_not_used_where_the_device_only_emulates_it(monkeypatch):
    monkeypatch.setattr(learner_module, "computes_bf16", lambda _: False)
    _, logits = start(build_network(), sgd(precision="bf16")).step(images(), LABELS, RATE)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(("limit", "n_parts"), [(2, 4), (3, 4), (7, 2)])
@pytest.mark.parametrize(("targets", "class_weights", "changes"), CASES, ids=["smoothed", "weighted", "mixed"])
def test_a_batch_that_does_not_fit_is_learnt_in_parts_to_the_same_step(
    targets, class_weights, changes, limit, n_parts, capsys
):
    whole = start(build_network(), sgd(**changes), class_weights)
    parted = start(build_network(limit), sgd(**changes), class_weights)
    for step in range(2):
        loss, logits = whole.step(images() + step, targets, RATE)
        its_loss, its_logits = parted.step(images() + step, targets, RATE)
        torch.testing.assert_close(its_logits, logits, rtol=0, atol=1e-5)
        assert its_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_close(whole.network, parted.network)
    assert parted.n_parts == n_parts
    assert max(parted.network.backbone[0].sizes[-n_parts:]) <= limit
    assert capsys.readouterr().out.count("\n") == {2: 1, 4: 2}[n_parts]  # once for each doubling, in the first step


def test_a_batch_that_does_not_fit_even_by_twos_is_the_users_to_mend(capsys):
    learner = start(build_network(1), sgd())
    before = copy_state(learner.network.state_dict())
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: learner.step(images(), LABELS, RATE))
    assert ended.value.code == 2
    assert "batch_size" in capsys.readouterr().err.splitlines()[-1]
    assert same_bits(learner.network.state_dict(), before)


@pytest.mark.parametrize("n_images", range(2, 13))
def test_no_part_has_an_image_alone(n_images):
    # batch normalisation learns nothing from one image; an epoch's last batch may be small
    learner = start(build_network(3), sgd())
    learner.step(images(12), LABELS.repeat(2)[:12], RATE)
    sizes = learner.network.backbone[0].sizes = []
    learner.step(images(n_images), LABELS.repeat(2)[:n_images], RATE)
    assert sum(sizes) == n_images
    assert min(sizes) >= 2
    assert max(sizes) <= 3


@pytest.mark.parametrize(
    ("decay", "second"),
    # the warm-up's decay after n steps is 1 - n ** (-2/3): 0, then 0.370, but no more than the one that is asked for
    [(0.3, 0.3), (0.999, 1 - 2 ** (-2 / 3))],
)
def test_the_average_follows_the_weights_fast_at_first_and_then_by_its_decay(decay, second):
    learner = start(build_network(), sgd(ema_decay=decay))
    learner.step(images(), LABELS, RATE)
    first = learner.network.head.weight.detach().clone()
    assert torch.equal(learner.best_network().head.weight, first)
    learner.step(images(), LABELS, RATE)
    expected = second * first + (1 - second) * learner.network.head.weight.detach()
    torch.testing.assert_close(learner.best_network().head.weight.detach(), expected, rtol=0, atol=1e-6)


def test_a_learner_goes_on_from_its_state_as_if_nothing_had_been():
    settings = change_settings(ema_decay=0.5, optimizer="adamw")
    steady, first = start(build_network(), settings), start(build_network(3), settings)
    first.n_parts = steady.n_parts = 4
    for learner in (steady, first):
        learner.step(images(), LABELS, RATE)
    other = start(build_network(3), settings)
    other.load_state_dict(first.state_dict())
    for learner in (steady, other):
        learner.step(images() + 1, LABELS, RATE)
    assert same_bits(steady.network.state_dict(), other.network.state_dict())
    assert same_bits(steady.best_network().state_dict(), other.best_network().state_dict())
    assert (other.n_steps, other.network.backbone[0].sizes) == (2, [2, 2, 2, 2])  # it remembers how many parts fit


def test_copied_weights_are_apart_from_the_network_and_fill_the_memory_that_is_there():
    network = build_network()
    copied, before = copy_weights(network), copy_state(network.state_dict())
    place = copied["head.weight"].data_ptr()
    with torch.no_grad():
        network.head.weight += 1
    assert same_bits(copied, before)
    assert copy_weights(network, into=copied) is copied
    assert same_bits(copied, dict(network.state_dict()))
    assert copied["head.weight"].data_ptr() == place
