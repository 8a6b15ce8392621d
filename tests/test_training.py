"""Training of very small networks: it learns, repeats itself bit by bit, and does what its settings say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.models.cnn import build_model
from stages.shared.config import Augment, FineTuneSettings, ModelSettings, Phase
from stages.shared.errors import UserError
from stages.shared.history import COLUMNS, write_history
from stages.shared.packs import Pack
from stages.shared.training import Task, fit, validate

SIZE = 16
COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))
STILL = 1e-12  # a learning rate that moves nothing
SETTINGS = ModelSettings(
    optimizer="adam",
    lr=0.01,
    epsilon=1e-8,
    weight_decay=0,
    batch_size=10,
    epochs=2,
    phases=[],
    rounds=1,
    schedule="none",
    warmup_epochs=0,
    patience=0,
    label_smoothing=0,
    class_weights="none",
    gradient_clip=0,
    precision="fp32",
)
AUGMENT = Augment(crop=True, flip=True, rotation_deg=0, zoom=0, shift=0, colour=0)


def _pack(labels: list[int], seed: int = 0) -> Pack:
    """Return plain colours, one a class, each image a little lighter or darker."""
    rng = np.random.default_rng(seed)
    shades = rng.integers(-25, 26, (len(labels), 1, 1, 3))
    images = np.array(COLOURS)[labels][:, None, None] + shades
    return Pack(np.broadcast_to(images, (len(labels), 18, 18, 3)).astype(np.uint8), np.array(labels))


def _noise(n: int) -> Pack:
    """Return images that say nothing of their labels."""
    return Pack(np.random.default_rng(5).integers(0, 256, (n, 18, 18, 3), dtype=np.uint8), np.arange(n) % 3)


def _task(settings: ModelSettings = SETTINGS, train: Pack | None = None, val: Pack | None = None, seed=1) -> Task:
    return Task(
        name="cnn",
        train=train or _pack([0, 1, 2] * 10),
        val=val or _pack([0, 1, 2] * 4, seed=1),
        n_classes=3,
        image_size_px=SIZE,
        settings=settings,
        augment=AUGMENT,
        seed=seed,
        device=torch.device("cpu"),
    )


def _settings(**changes) -> ModelSettings:
    return SETTINGS.model_copy(update=changes)


def _cnn() -> nn.Module:
    torch.manual_seed(1)
    return build_model(3, SIZE, filters=2, padding="same", dense_units=8, dropout=0.25)


def _linear(bias: tuple[float, ...] = (0, 0, 0)) -> nn.Module:
    """Return a network whose answer to every image is its bias."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    nn.init.zeros_(network[1].weight)
    network[1].bias.data.copy_(torch.tensor(bias))
    return network


def _fit(network: nn.Module, task: Task) -> tuple[dict[str, torch.Tensor], list[dict]]:
    history: list[dict] = []

    def keep(rows: list[dict]) -> None:
        history[:] = [dict(row) for row in rows]

    return fit(network, task, on_epoch=keep), history


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plain_colours_are_learnt_without_a_mistake(precision):
    settings = _settings(epochs=12, precision=precision, schedule="cosine", warmup_epochs=1, label_smoothing=0.1)
    torch.manual_seed(1)
    network = build_model(3, SIZE, filters=4, padding="same", dense_units=16, dropout=0)
    _, history = _fit(network, _task(settings))
    assert max(row["val_accuracy"] for row in history) == 1
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(precision):
    settings = _settings(precision=precision)
    best, history = _fit(_cnn(), _task(settings))
    network = _cnn()
    torch.manual_seed(99)  # what else draws random numbers has no say
    again, history_again = _fit(network, _task(settings))
    other, _ = _fit(_cnn(), _task(settings, seed=2))
    assert _same(best, again)
    assert history == history_again
    assert not _same(best, other)


def test_training_changes_every_weight():
    network = _cnn()
    before = _copy(network.state_dict())
    fit(network, _task(), on_epoch=lambda rows: None)
    assert [name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_the_network_ends_with_the_weights_of_the_row_that_is_marked_best():
    # two good epochs, then two that a huge rate spoils
    settings = _settings(epochs=6, phases=[Phase(epochs=4, lr=0.01)], lr=30.0)
    network, task = _cnn(), _task(settings)
    best, history = _fit(network, task)
    (marked,) = [row for row in history if row["best"]]
    first_of_the_best = max(history, key=lambda row: row["val_accuracy"])
    assert marked is first_of_the_best
    assert marked["val_accuracy"] > history[-1]["val_accuracy"]
    assert validate(network, task) == (marked["val_loss"], marked["val_accuracy"])
    assert _same(best, network.state_dict())


def test_the_history_is_handed_over_whenever_an_epoch_ends():
    lengths = []
    fit(_linear(), _task(_settings(epochs=3)), on_epoch=lambda rows: lengths.append(len(rows)))
    assert lengths == [1, 2, 3]


def test_patience_stops_after_so_many_epochs_without_a_better_one():
    _, history = _fit(_linear(), _task(_settings(epochs=9, lr=STILL, patience=2)))
    assert [(row["epoch"], row["best"]) for row in history] == [(1, 1), (2, 0), (3, 0)]


def test_without_patience_every_epoch_runs():
    _, history = _fit(_linear(), _task(_settings(epochs=5, lr=STILL)))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]


def test_rounds_run_the_epochs_and_the_schedule_again_and_number_on():
    _, history = _fit(_linear(), _task(_settings(epochs=3, rounds=2, schedule="cosine")))
    assert [(row["round"], row["epoch"]) for row in history] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    rates = [row["lr"] for row in history]
    assert rates[:3] == rates[3:]
    assert rates[0] == 0.01 > rates[1] > rates[2]
    assert sum(row["best"] for row in history) == 1


def test_patience_begins_anew_in_each_round():
    _, history = _fit(_linear(), _task(_settings(epochs=5, rounds=2, lr=STILL, patience=2)))
    # the first epoch of each round is its best, and two more run; the second round's numbers begin at 6
    assert [row["epoch"] for row in history] == [1, 2, 3, 6, 7, 8]


def test_a_round_starts_from_the_best_weights_so_far():
    settings = _settings(epochs=2, rounds=2, batch_size=30, phases=[Phase(epochs=1, lr=STILL)], lr=30.0)
    right = _pack([0, 1, 2] * 10)
    wrong = Pack(right.images, (right.labels + 1) % 3)  # what is learnt from it spoils the answers
    network, begun, ended, accuracies = _linear(bias=(1, 0, 0)), [], [], []

    def keep(rows: list[dict]) -> None:
        ended.append(_copy(network.state_dict()))
        accuracies.append(rows[-1]["val_accuracy"])

    # a batch an epoch: each time that the network trains is the beginning of an epoch
    network.register_forward_pre_hook(lambda net, _: begun.append(_copy(net.state_dict())) if net.training else None)
    fit(network, _task(settings, train=wrong), on_epoch=keep)
    assert accuracies[:2] == pytest.approx([1 / 3, 0])  # always the first class; then always a wrong one
    assert _same(begun[1], ended[0])
    assert _same(begun[2], ended[0])
    assert not _same(begun[2], ended[1])


def _fine_tune(**changes) -> FineTuneSettings:
    values = {**dict(SETTINGS), "frozen_epochs": 1, "backbone_lr": 0.005, "weight_decay": 0.1, **changes}
    return FineTuneSettings(**values)


def _states_after_each_epoch(network: nn.Module, task: Task) -> list[dict[str, dict[str, torch.Tensor]]]:
    states = []

    def keep(rows: list[dict]) -> None:
        states.append({part: _copy(getattr(network, part).state_dict()) for part in ("backbone", "head")})

    keep([])
    fit(network, task, on_epoch=keep)
    return states


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_epochs_leave_every_tensor_of_the_backbone_as_it_was(optimizer):
    start, first, second, third = _states_after_each_epoch(
        _cnn(), _task(_fine_tune(epochs=3, frozen_epochs=2, optimizer=optimizer))
    )
    assert any("running_mean" in name for name in start["backbone"])
    assert _same(start["backbone"], first["backbone"])
    assert _same(start["backbone"], second["backbone"])
    assert not _same(start["head"], first["head"])
    assert not _same(first["head"], second["head"])
    assert [name for name in start["backbone"] if torch.equal(start["backbone"][name], third["backbone"][name])] == []


def test_the_backbone_is_frozen_again_in_the_next_round():
    network, task = _cnn(), _task(_fine_tune(epochs=2, rounds=2))
    states = _states_after_each_epoch(network, task)
    assert not _same(states[1]["backbone"], states[2]["backbone"])
    # the second round starts from the best epoch of the first
    assert any(_same(states[3]["backbone"], states[epoch]["backbone"]) for epoch in (1, 2))
    assert not _same(states[3]["backbone"], states[4]["backbone"])


LN2 = math.log(2)
BIAS = (LN2, 0.0, 0.0)  # probabilities 1/2, 1/4, 1/4: losses ln 2, 2 ln 2, 2 ln 2
UNEVEN = [0, 0, 0, 0, 1, 2]


def test_losses_are_those_of_the_images_by_hand():
    _, ((row),) = _fit(_linear(BIAS), _task(_settings(epochs=1, lr=STILL), _pack(UNEVEN), _pack([0, 1])))
    assert row["train_loss"] == pytest.approx(LN2 * (4 + 2 + 2) / 6, rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(4 / 6, rel=1e-6)
    assert row["val_loss"] == pytest.approx(LN2 * 1.5, rel=1e-5)
    assert row["val_accuracy"] == 0.5


def test_balanced_class_weights_are_inverse_to_the_counts_with_a_mean_of_1():
    task = _task(_settings(class_weights="balanced"), _pack(UNEVEN))
    # 6 / (3 * 4), 6 / (3 * 1), 6 / (3 * 1); over the six images: (4 * 0.5 + 2 + 2) / 6 = 1
    assert task.class_weights().tolist() == [0.5, 2, 2]
    assert _task(SETTINGS, _pack(UNEVEN)).class_weights() is None


def test_balanced_class_weights_weigh_the_loss_of_the_training_images_alone():
    settings = _settings(epochs=1, lr=STILL, class_weights="balanced")
    _, ((row),) = _fit(_linear(BIAS), _task(settings, _pack(UNEVEN), _pack(UNEVEN)))
    # (4 * 0.5 * 1 + 2 * 2 + 2 * 2) / (4 * 0.5 + 2 + 2) = 10 / 6
    assert row["train_loss"] == pytest.approx(LN2 * 10 / 6, rel=1e-5)
    assert row["val_loss"] == pytest.approx(LN2 * 8 / 6, rel=1e-5)


def test_label_smoothing_mixes_in_the_mean_over_the_classes_while_training_alone():
    settings = _settings(epochs=1, lr=STILL, label_smoothing=0.3)
    _, ((row),) = _fit(_linear(BIAS), _task(settings, _pack(UNEVEN), _pack(UNEVEN)))
    # 0.7 * 8 / 6 + 0.3 * (1 + 2 + 2) / 3
    assert row["train_loss"] == pytest.approx(LN2 * (0.7 * 8 / 6 + 0.5), rel=1e-5)
    assert row["val_loss"] == pytest.approx(LN2 * 8 / 6, rel=1e-5)


def _step(gradient_clip: float) -> torch.Tensor:
    """Return how one step of SGD moved the weights of a linear network."""
    network = _linear()
    settings = _settings(optimizer="sgd", epochs=1, batch_size=30, gradient_clip=gradient_clip)
    fit(network, _task(settings, _pack([0] * 30)), on_epoch=lambda rows: None)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_gradients_are_clipped_to_the_norm_that_is_asked_for():
    whole, tenth, twentieth = _step(0), _step(0.1), _step(0.05)
    assert tenth.norm() < whole.norm()
    torch.testing.assert_close(tenth, 2 * twentieth, rtol=1e-4, atol=0)  # half the clip, half the step
    torch.testing.assert_close(tenth / tenth.norm(), whole / whole.norm(), rtol=1e-4, atol=1e-7)  # in its direction
    assert torch.equal(_step(1e6), whole)  # a clip that is never reached


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_do():
    with pytest.raises(UserError, match=r"cnn: the loss is (nan|inf) in epoch \d.*try a smaller lr"):
        fit(_cnn(), _task(_settings(lr=1e30)), on_epoch=lambda rows: None)


def test_a_single_image_left_over_does_not_stop_batch_normalisation():
    _, history = _fit(_cnn(), _task(_settings(epochs=1, batch_size=9), _pack([0, 1, 2] * 3 + [0])))
    assert math.isfinite(history[0]["train_loss"])


def test_validation_leaves_the_network_as_it_was():
    network, task = _cnn(), _task()
    before = _copy(network.state_dict())
    first = validate(network, task)
    assert validate(network, task) == first
    assert _same(before, network.state_dict())


def test_nothing_is_learnt_from_the_validation_images():
    best, _ = _fit(_cnn(), _task(_settings(epochs=1)))
    other, _ = _fit(_cnn(), _task(_settings(epochs=1), val=_noise(9)))
    assert _same(best, other)


def test_history_has_six_significant_digits(tmp_path):
    row = {"round": 1, "epoch": 12, "lr": 0.00012345678, "train_loss": 2 / 3, "train_accuracy": 0.5}
    write_history(tmp_path / "history.csv", [{**row, "val_loss": 1234567.0, "val_accuracy": 1.0, "best": 1}])
    lines = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [",".join(COLUMNS), "1,12,0.000123457,0.666667,0.5,1.23457e+06,1,1"]
