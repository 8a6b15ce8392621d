"""Steps of very small networks, compared with plain torch, and the average of the weights."""

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from stages.networks.batches import make_batch
from stages.runtime.errors import UserError
from stages.runtime.process import exit_cleanly
from stages.settings.types import ModelSettings
from stages.training import features
from stages.training import trainer as trainer_module
from stages.training.checkpoints import open_checkpoint
from stages.training.heads import fit_head
from stages.training.job import Job
from stages.training.trainer import Trainer, copy_weights, fit, weigh_classes
from tests.trainings import (
    AUGMENT,
    change_settings,
    copy_state,
    make_job,
    noise_split,
    plain_split,
    same_bits,
    tiny_cnn,
)

CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 4.0])
LABELS = torch.tensor([0, 1, 2, 3, 0, 0, 1, 3])
# as from mixing: 0.75 for the image's own class, 0.25 for the one before it
SHARES = 0.75 * functional.one_hot(LABELS, 4).float() + 0.25 * functional.one_hot(LABELS, 4).float().roll(1, 0)
RATE = 0.1
PLAIN = AUGMENT.model_copy(update={"crop": False, "flip": False})


def build_network() -> nn.Module:
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(4 * 4 * 4, 4)))


def images(n: int = 8, size: int = 6) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(2))


def sgd(**changes) -> ModelSettings:
    return change_settings(optimizer="sgd", lr=RATE, **changes)


def start(network: nn.Module, settings: ModelSettings, class_weights: torch.Tensor | None = None) -> Trainer:
    trainer = Trainer(network, make_job(settings, n_classes=4, in_bf16=settings.precision == "bf16"))
    trainer.class_weights = class_weights
    trainer.begin_epoch()
    return trainer


def assert_close(one: nn.Module, other: nn.Module) -> None:
    """Assert that all weights are equal except for rounding, relative to the largest value of each."""
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
def test_a_step_is_that_of_torchs_own_mean_cross_entropy(targets, class_weights, changes, precision):
    network, own = build_network(), build_network()
    trainer = start(network, sgd(**changes, precision=precision), class_weights)
    loss, logits = trainer.step(images(), targets)

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


def test_a_batch_that_does_not_fit_into_memory_is_the_users_to_mend(capsys):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory, says the test")

    network, job = build_network(), make_job(sgd(batch_size=7), n_classes=4)
    network.register_forward_pre_hook(fail)
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(lambda: fit(network, job, on_epoch=lambda rows: None))
    assert ended.value.code == 2
    assert "batch_size 7 at 16 x 16 px" in capsys.readouterr().err.splitlines()[-1]


def test_what_dropout_draws_does_not_depend_on_what_else_draws_or_how_far_ahead_batches_are_made():
    def train(disturb: Callable[[], object]) -> dict[str, torch.Tensor]:
        network = tiny_cnn()
        trainer = Trainer(network, make_job(sgd(batch_size=8)))
        trainer.begin_epoch()
        for pictures, labels in ((images(8, size=16), LABELS % 3),) * 3:
            disturb()
            trainer.step(pictures, labels)
        return copy_state(network.state_dict())

    assert same_bits(train(lambda: None), train(lambda: torch.rand(5)))
    assert not same_bits(train(lambda: None), copy_state(tiny_cnn().state_dict()))


def test_what_an_architecture_keeps_fixed_stays_fixed_when_the_backbone_is_unfrozen():
    network = build_network()
    network.backbone[0].bias.requires_grad_(False)
    before = network.backbone[0].bias.clone()
    fit(network, make_job(sgd(batch_size=7, epochs=2, frozen_epochs=1), size_px=6), lambda rows: None)
    assert torch.equal(network.backbone[0].bias, before)
    assert not network.backbone[0].bias.requires_grad
    assert network.backbone[0].weight.requires_grad


def test_each_step_of_each_epoch_has_dropout_of_its_own():
    seeds = []
    for seed in (1, 2):
        network = build_network()
        network.register_forward_pre_hook(lambda net, _: seeds.append(torch.initial_seed()) if net.training else None)
        fit(network, make_job(sgd(batch_size=10), size_px=6, seed=seed), lambda rows: None)
    assert len(seeds) == len(set(seeds)) == 2 * 2 * 3


def test_weights_of_classes_are_in_inverse_proportion_to_their_counts_also_of_one_without_images():
    job = make_job(change_settings(class_weights="balanced"), plain_split([0, 0, 0, 1]))
    assert weigh_classes(job).tolist() == pytest.approx([4 / (3 * 3), 4 / 3, 4 / 3])


def test_a_round_starts_from_the_best_weights_and_so_does_the_average_and_a_checkpoint_holds_them_once():
    trainer = Trainer(tiny_cnn(), make_job(change_settings(epochs=3, rounds=2, ema_decay=0.5)))
    trainer.run_epoch()
    assert trainer.state_dict()["best"] is None  # they equal those of the average
    kept = copy_state(trainer.best)
    trainer.history[0]["val_accuracy"] = 2  # no other epoch is as good
    trainer.run_epoch()
    assert same_bits(trainer.state_dict()["best"], kept)
    trainer.run_epoch()
    assert (trainer.round, trainer.epoch, trainer.state_dict()["best"]) == (1, 0, None)
    for network in (trainer.network, trainer.average.module):
        assert same_bits(dict(network.state_dict()), kept)


def test_the_line_of_an_epoch_tells_how_fast_it_was_and_how_long_those_that_are_left_will_take(monkeypatch):
    ticks = count(step=2)  # seconds: 30 images in 2, and an epoch in 4
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    trainer = Trainer(tiny_cnn(), make_job(change_settings(epochs=5, rounds=2)))
    for n_left in (9, 8, 7, 6, 5, 4):
        line = trainer.run_epoch()
        assert re.findall(r"(\d+) images/s +(\d+) s left", line) == [("15", f"{4 * n_left}")]
        assert f"epoch {10 - n_left:2}/10" in line


def test_a_validation_loss_that_is_not_finite_is_the_users_to_mend():
    with pytest.raises(UserError, match="epoch 3"):
        Trainer(tiny_cnn(), make_job()).describe(3, 0.1, (0.5, 0.5), (float("inf"), 0.5))


@pytest.mark.parametrize(
    ("decay", "second"),
    # the decay in the warm-up after n steps is 1 - n ** (-2/3): 0, then 0.370, at most the decay of the settings
    [(0.3, 0.3), (0.999, 1 - 2 ** (-2 / 3))],
)
def test_the_average_follows_the_weights_fast_at_first_and_then_by_its_decay(decay, second):
    trainer = start(build_network(), sgd(ema_decay=decay))
    trainer.step(images(), LABELS)
    first = trainer.network.head.weight.detach().clone()
    assert torch.equal(trainer.best_network.head.weight, first)
    trainer.step(images(), LABELS)
    expected = second * first + (1 - second) * trainer.network.head.weight.detach()
    torch.testing.assert_close(trainer.best_network.head.weight.detach(), expected, rtol=0, atol=1e-6)


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


FROZEN = {"frozen_epochs": 2, "frozen_views": 1, "epochs": 3, "optimizer": "sgd", "lr": 0.5, "momentum": 0.9}


def train(job: Job, folder: Path | None = None) -> tuple[dict[str, torch.Tensor], list[dict]]:
    rows: list[dict] = []
    network = tiny_cnn()
    checkpoint = open_checkpoint(folder, network, job) if folder else None
    best = copy_state(fit(network, job, lambda history: rows.__setitem__(slice(None), map(dict, history)), checkpoint))
    if checkpoint:
        checkpoint.wait()
        checkpoint.path.unlink()
        checkpoint.release()
    return best, rows


def test_a_head_learns_the_same_from_kept_features_as_from_the_pictures():
    parts = {"train": noise_split(23), "augment": PLAIN}  # each epoch shows the same pictures
    _, slow = train(make_job(change_settings(**FROZEN | {"frozen_views": 0}), **parts))
    _, fast = train(make_job(change_settings(**FROZEN), **parts))
    for one, other in zip(slow, fast, strict=True):
        assert other == pytest.approx(one, rel=0, abs=1e-5)


def test_a_sweep_of_rates_computes_features_once_and_ends_with_the_same_bits_as_without_them(tmp_path, monkeypatch):
    jobs = [make_job(change_settings(**FROZEN | {"lr": lr, "frozen_views": 3})) for lr in (0.1, 0.2)]
    expected = [train(job) for job in jobs]
    assert all(same_bits(train(job, tmp_path)[0], best) for job, (best, _) in zip(jobs, expected, strict=True))
    monkeypatch.setattr(features, "compute_features", lambda *_: pytest.fail("computed again"))
    assert train(jobs[1], tmp_path)[1] == expected[1][1]
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2  # for train and val
    other = make_job(jobs[0].settings, train=noise_split(30))
    with pytest.raises(pytest.fail.Exception):
        train(other, tmp_path)


@pytest.mark.parametrize("change", [{"flip": True}, {"policy": "trivialaugment"}], ids=str)
def test_the_first_view_is_the_centre_crop_and_the_others_are_drawn_by_augment_and_seed(change, capsys):
    def views(seed: int, split: str = "train") -> np.ndarray:
        augment, settings = PLAIN.model_copy(update=change), change_settings(frozen_views=3)
        job = make_job(settings, noise_split(6), noise_split(5), augment=augment, seed=seed)
        return features.read_features(nn.Flatten(), job, split, folder=None)

    one, other = views(seed=1), views(seed=2)
    centre = make_batch(noise_split(6).images, torch.arange(6), make_job().view).flatten(1).numpy()
    assert np.array_equal(one[0], centre)
    assert np.array_equal(other[0], centre)
    assert len(np.unique(np.concatenate([one, other[1:]]), axis=0)) == 5
    assert views(1, "val").shape == (1, 5, centre.shape[1])
    assert re.findall(r"cnn: features of 6 images, view (.*) of 3\n", capsys.readouterr().out) == ["1", "2", "3"] * 2


@pytest.mark.parametrize(("n_views", "n_files"), [(1, 1), (2, 4)])
def test_jobs_share_a_feature_file_unless_its_views_depend_on_what_they_differ_in(n_views, n_files, tmp_path):
    for other in ({}, {"seed": 2}, {"code": "other code"}, {"augment": PLAIN}):
        job = make_job(change_settings(frozen_views=n_views), noise_split(4), **other)
        features.read_features(nn.Flatten(), job, "train", tmp_path / "checkpoints" / "features")
    assert len([*tmp_path.rglob("*.npy")]) == n_files


def test_the_oldest_feature_files_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_BYTES", 25)
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / f"{name}.npy").write_bytes(bytes(10))
        os.utime(tmp_path / f"{name}.npy", (1000 - age, 1000 - age))
    features.make_room(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["new", "old"]


def test_batch_statistics_stay_as_they_are_where_that_is_asked_for():
    settings = change_settings(epochs=2, frozen_batch_norm=True)
    network = tiny_cnn()
    before = copy_state(network.state_dict())
    fit(network, make_job(settings), lambda rows: None)
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not [name for name in moved if "running" in name]
    assert [name for name in moved if name.startswith("backbone")]


def test_frozen_layers_keep_weights_and_batch_statistics_also_after_frozen_epochs():
    network = tiny_cnn()
    first, second = [name for name, layer in network.backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)][:2]
    before = copy_state(network.backbone.state_dict())
    fit(network, make_job(change_settings(epochs=3, frozen_epochs=1, frozen_layers=[first])), lambda rows: None)
    moved = {name for name, tensor in network.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if name.startswith(f"{first}.")]
    assert {f"{second}.weight", f"{second}.running_mean"} <= moved


def linear_head(network: nn.Module) -> nn.Module:
    """Replace the head of a network by one linear layer."""
    n_inputs = network.head[1].in_features
    network.head = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 3))
    return network


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_head_that_starts_as_a_logistic_regression_is_epoch_0(epochs):
    start = change_settings(head_start="logistic_regression", frozen_views=2, epochs=epochs, lr=1e-12, ema_decay=0.5)
    network, rows = linear_head(tiny_cnn()), []
    fit(network, make_job(start), lambda history: rows.__setitem__(slice(None), map(dict, history)))
    assert [row["epoch"] for row in rows] == list(range(epochs + 1))
    assert rows[0]["lr"] == 0
    assert rows[0]["val_accuracy"] > 0.7  # plain colours, through two random filters; chance would give a third
    (best,) = [row for row in rows if row["best"]]
    trainer = Trainer(network, make_job(start))
    assert trainer.score("val") == pytest.approx((best["val_loss"], best["val_accuracy"]))
    if not epochs:
        assert trainer.score("train") == pytest.approx((best["train_loss"], best["train_accuracy"]))
        assert best["train_loss"] != best["val_loss"]


def test_the_copies_of_a_picture_are_in_one_fold_where_a_logistic_regression_is_fitted():
    start = change_settings(head_start="logistic_regression", frozen_views=1)
    groups = np.zeros(30, int)  # a single group: no folds at all
    trainer = Trainer(linear_head(tiny_cnn()), make_job(start, groups=groups))
    of_one, of_each = deepcopy(trainer.network.head), deepcopy(trainer.network.head)
    trainer.start_head()
    for head, its_groups in ((of_one, groups), (of_each, np.arange(30))):
        fit_head(head, trainer.read_features("train"), trainer.job.train.labels, its_groups)
    found = dict(trainer.network.head.state_dict())
    assert same_bits(found, of_one.state_dict())
    assert not same_bits(found, of_each.state_dict())
