"""Training of very small networks: it learns, repeats itself bit by bit, and does what its settings say."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from stages.models.cnn import build_model
from stages.networks.batches import place_pack
from stages.pixels.packed_splits import Pack
from stages.runtime.errors import UserError
from stages.settings.types import Phase
from stages.training.history import COLUMNS, write_history
from stages.training.learner import Learner
from stages.training.loop import Task, fit, train_one_epoch, validate
from stages.training.processes import ALONE
from stages.training.progress import EpochProgress
from tests.trainings import (
    AUGMENT,
    CPU,
    SETTINGS,
    SIZE,
    STILL,
    change_settings,
    copy_state,
    fine_tune_settings,
    linear_network,
    make_task,
    noise_pack,
    plain_pack,
    same_bits,
    tiny_cnn,
)

_NO_CHANGES = AUGMENT.model_copy(update={"crop": False, "flip": False})
_ALL_CHANGES = AUGMENT.model_copy(
    update={"rotation_deg": 10, "zoom": 0.1, "shift": 0.1, "colour": 0.2, "policy": "trivialaugment"}
)


def _learner(network: nn.Module, task: Task) -> Learner:
    return Learner(network, task.settings, task.class_weights(), ALONE, CPU)


def _validate(network: nn.Module, task: Task) -> tuple[float, float]:
    return validate(_learner(network, task), task, place_pack(task.val, CPU))


def _fit(network: nn.Module, task: Task) -> tuple[dict[str, torch.Tensor], list[dict]]:
    history: list[dict] = []

    def keep(rows: list[dict]) -> None:
        history[:] = [dict(row) for row in rows]

    return fit(network, task, on_epoch=keep), history


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_plain_colours_are_learnt_without_a_mistake(precision):
    settings = change_settings(epochs=12, precision=precision, schedule="cosine", warmup_epochs=1, label_smoothing=0.1)
    torch.manual_seed(1)
    network = build_model(3, SIZE, filters=4, padding="same", dense_units=16, dropout=0)
    _, history = _fit(network, make_task(settings))
    assert max(row["val_accuracy"] for row in history) == 1
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(precision):
    settings = change_settings(precision=precision)
    best, history = _fit(tiny_cnn(), make_task(settings))
    network = tiny_cnn()
    torch.manual_seed(99)  # what else draws random numbers has no say
    again, history_again = _fit(network, make_task(settings))
    other, _ = _fit(tiny_cnn(), make_task(settings, seed=2))
    assert same_bits(best, again)
    assert history == history_again
    assert not same_bits(best, other)


def test_training_changes_every_weight():
    network = tiny_cnn()
    before = copy_state(network.state_dict())
    fit(network, make_task(), on_epoch=lambda rows: None)
    assert [name for name, tensor in network.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_the_network_ends_with_the_weights_of_the_row_that_is_marked_best():
    # two good epochs, then two that a huge rate spoils
    settings = change_settings(epochs=6, phases=[Phase(epochs=4, lr=0.01)], lr=30.0)
    network, task = tiny_cnn(), make_task(settings)
    best, history = _fit(network, task)
    (marked,) = [row for row in history if row["best"]]
    first_of_the_best = max(history, key=lambda row: row["val_accuracy"])
    assert marked is first_of_the_best
    assert marked["val_accuracy"] > history[-1]["val_accuracy"]
    assert _validate(network, task) == (marked["val_loss"], marked["val_accuracy"])
    assert same_bits(best, network.state_dict())


def test_the_history_is_handed_over_whenever_an_epoch_ends():
    lengths = []
    fit(linear_network(), make_task(change_settings(epochs=3)), on_epoch=lambda rows: lengths.append(len(rows)))
    assert lengths == [1, 2, 3]


def test_patience_stops_after_so_many_epochs_without_a_better_one():
    _, history = _fit(linear_network(), make_task(change_settings(epochs=9, lr=STILL, patience=2)))
    assert [(row["epoch"], row["best"]) for row in history] == [(1, 1), (2, 0), (3, 0)]


def test_without_patience_every_epoch_runs():
    _, history = _fit(linear_network(), make_task(change_settings(epochs=5, lr=STILL)))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]


def test_rounds_run_the_epochs_and_the_schedule_again_and_number_on():
    _, history = _fit(linear_network(), make_task(change_settings(epochs=3, rounds=2, schedule="cosine")))
    assert [(row["round"], row["epoch"]) for row in history] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    rates = [row["lr"] for row in history]
    assert rates[:3] == rates[3:]
    assert rates[0] == 0.01 > rates[1] > rates[2]
    assert sum(row["best"] for row in history) == 1


def test_patience_begins_anew_in_each_round():
    _, history = _fit(linear_network(), make_task(change_settings(epochs=5, rounds=2, lr=STILL, patience=2)))
    # the first epoch of each round is its best, and two more run; the second round's numbers begin at 6
    assert [row["epoch"] for row in history] == [1, 2, 3, 6, 7, 8]


def test_a_round_starts_from_the_best_weights_so_far():
    settings = change_settings(epochs=2, rounds=2, batch_size=30, phases=[Phase(epochs=1, lr=STILL)], lr=30.0)
    right = plain_pack([0, 1, 2] * 10)
    wrong = Pack(right.images, (right.labels + 1) % 3)  # what is learnt from it spoils the answers
    network, begun, ended = linear_network(bias=(1, 0, 0)), [], []
    # a batch an epoch, and one of validation: each is the network's state at the epoch's beginning, and at its end
    network.register_forward_pre_hook(
        lambda net, _: (begun if net.training else ended).append(copy_state(net.state_dict()))
    )
    _, history = _fit(network, make_task(settings, train=wrong))
    accuracies = [row["val_accuracy"] for row in history]
    assert accuracies[:2] == pytest.approx([1 / 3, 0])  # always the first class; then always a wrong one
    assert same_bits(begun[1], ended[0])
    assert same_bits(begun[2], ended[0])
    assert not same_bits(begun[2], ended[1])


def _states_after_each_epoch(network: nn.Module, task: Task) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Return the parts' states before the training, and whenever the network was validated."""
    states = []

    def keep(net: nn.Module, _: tuple) -> None:
        if not net.training:
            states.append({part: copy_state(getattr(net, part).state_dict()) for part in ("backbone", "head")})

    network.register_forward_pre_hook(keep)
    keep(network.eval(), ())
    fit(network, task, on_epoch=lambda rows: None)
    return states


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_frozen_epochs_leave_every_tensor_of_the_backbone_as_it_was(optimizer):
    start, first, second, third = _states_after_each_epoch(
        tiny_cnn(), make_task(fine_tune_settings(epochs=3, frozen_epochs=2, optimizer=optimizer))
    )
    assert any("running_mean" in name for name in start["backbone"])
    assert same_bits(start["backbone"], first["backbone"])
    assert same_bits(start["backbone"], second["backbone"])
    assert not same_bits(start["head"], first["head"])
    assert not same_bits(first["head"], second["head"])
    assert [name for name in start["backbone"] if torch.equal(start["backbone"][name], third["backbone"][name])] == []


def test_the_backbone_is_frozen_again_in_the_next_round():
    network, task = tiny_cnn(), make_task(fine_tune_settings(epochs=2, rounds=2))
    states = _states_after_each_epoch(network, task)
    assert not same_bits(states[1]["backbone"], states[2]["backbone"])
    # the second round starts from the best epoch of the first
    assert any(same_bits(states[3]["backbone"], states[epoch]["backbone"]) for epoch in (1, 2))
    assert not same_bits(states[3]["backbone"], states[4]["backbone"])


LN2 = math.log(2)
BIAS = (LN2, 0.0, 0.0)  # probabilities 1/2, 1/4, 1/4: losses ln 2, 2 ln 2, 2 ln 2
UNEVEN = [0, 0, 0, 0, 1, 2]


def test_losses_are_those_of_the_images_by_hand():
    _, ((row),) = _fit(
        linear_network(BIAS), make_task(change_settings(epochs=1, lr=STILL), plain_pack(UNEVEN), plain_pack([0, 1]))
    )
    assert row["train_loss"] == pytest.approx(LN2 * (4 + 2 + 2) / 6, rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(4 / 6, rel=1e-6)
    assert row["val_loss"] == pytest.approx(LN2 * 1.5, rel=1e-5)
    assert row["val_accuracy"] == 0.5


def test_balanced_class_weights_are_inverse_to_the_counts_with_a_mean_of_1():
    task = make_task(change_settings(class_weights="balanced"), plain_pack(UNEVEN))
    # 6 / (3 * 4), 6 / (3 * 1), 6 / (3 * 1); over the six images: (4 * 0.5 + 2 + 2) / 6 = 1
    assert task.class_weights().tolist() == [0.5, 2, 2]
    assert make_task(SETTINGS, plain_pack(UNEVEN)).class_weights() is None


def test_balanced_class_weights_weigh_the_loss_of_the_training_images_alone():
    settings = change_settings(epochs=1, lr=STILL, class_weights="balanced")
    _, ((row),) = _fit(linear_network(BIAS), make_task(settings, plain_pack(UNEVEN), plain_pack(UNEVEN)))
    # (4 * 0.5 * 1 + 2 * 2 + 2 * 2) / (4 * 0.5 + 2 + 2) = 10 / 6
    assert row["train_loss"] == pytest.approx(LN2 * 10 / 6, rel=1e-5)
    assert row["val_loss"] == pytest.approx(LN2 * 8 / 6, rel=1e-5)


def test_label_smoothing_mixes_in_the_mean_over_the_classes_while_training_alone():
    settings = change_settings(epochs=1, lr=STILL, label_smoothing=0.3)
    _, ((row),) = _fit(linear_network(BIAS), make_task(settings, plain_pack(UNEVEN), plain_pack(UNEVEN)))
    # 0.7 * 8 / 6 + 0.3 * (1 + 2 + 2) / 3
    assert row["train_loss"] == pytest.approx(LN2 * (0.7 * 8 / 6 + 0.5), rel=1e-5)
    assert row["val_loss"] == pytest.approx(LN2 * 8 / 6, rel=1e-5)


def _step(gradient_clip: float) -> torch.Tensor:
    """Return how one step of SGD moved the weights of a linear network."""
    network = linear_network()
    settings = change_settings(optimizer="sgd", epochs=1, batch_size=30, gradient_clip=gradient_clip)
    fit(network, make_task(settings, plain_pack([0] * 30)), on_epoch=lambda rows: None)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_gradients_are_clipped_to_the_norm_that_is_asked_for():
    whole, tenth, twentieth = _step(0), _step(0.1), _step(0.05)
    assert tenth.norm() < whole.norm()
    torch.testing.assert_close(tenth, 2 * twentieth, rtol=1e-4, atol=0)  # half the clip, half the step
    torch.testing.assert_close(tenth / tenth.norm(), whole / whole.norm(), rtol=1e-4, atol=1e-7)  # in its direction
    assert torch.equal(_step(1e6), whole)  # a clip that is never reached


def test_a_loss_that_is_no_number_is_named_with_its_epoch_batch_and_rate_and_what_to_do():
    # the first step makes weights of 1e30; the second batch's logits overflow
    settings = change_settings(optimizer="sgd", lr=1e38, epochs=3)
    with pytest.raises(
        UserError, match=r"cnn: the loss is not finite in epoch 1, batch 2, at lr 1e\+38; try a smaller lr"
    ):
        fit(linear_network(), make_task(settings), on_epoch=lambda rows: None)


def test_the_rate_that_is_named_with_a_loss_that_is_no_number_is_the_schedules():
    # epoch 2 of 2 at half a wave of the cosine: half the rate; STILL as the first phase keeps the first epoch finite
    settings = change_settings(
        optimizer="sgd", lr=1e38, epochs=2, phases=[Phase(epochs=1, lr=STILL)], schedule="cosine", batch_size=15
    )
    rate = 1e38 * 0.5 * (1 + math.cos(math.pi * 0.75))  # at batch 2 of 2 of epoch 2 of 2
    with pytest.raises(UserError, match=rf"epoch 2, batch 2, at lr {rate:g};".replace("+", r"\+")):
        fit(linear_network(), make_task(settings), on_epoch=lambda rows: None)


def test_a_single_image_left_over_does_not_stop_batch_normalisation():
    _, history = _fit(tiny_cnn(), make_task(change_settings(epochs=1, batch_size=9), plain_pack([0, 1, 2] * 3 + [0])))
    assert math.isfinite(history[0]["train_loss"])


def test_validation_leaves_the_network_as_it_was():
    network, task = tiny_cnn(), make_task()
    before = copy_state(network.state_dict())
    first = _validate(network, task)
    assert _validate(network, task) == first
    assert same_bits(before, network.state_dict())


def test_nothing_is_learnt_from_the_validation_images():
    best, _ = _fit(tiny_cnn(), make_task(change_settings(epochs=1)))
    other, _ = _fit(tiny_cnn(), make_task(change_settings(epochs=1), val=noise_pack(9)))
    assert same_bits(best, other)


def _inputs_of_epoch(task: Task, number: int) -> list[torch.Tensor]:
    """Train one epoch; return the images, and what dropout left of ones, of each of its batches."""
    dropout, inputs = nn.Dropout(0.5), []
    network = linear_network()
    network.register_forward_pre_hook(lambda _, args: inputs.extend([args[0].clone(), dropout(torch.ones(20))]))
    progress = EpochProgress("cnn", len(task.train), task.settings.batch_size, CPU, ALONE)
    train_one_epoch(_learner(network, task), task, place_pack(task.train, CPU), number, number, progress)
    return inputs


def test_the_random_numbers_of_an_epoch_depend_on_the_seed_and_its_number_alone():
    task = make_task(change_settings(epochs=9, mixup=0.5), augment=_ALL_CHANGES)
    first = _inputs_of_epoch(task, 1)
    torch.manual_seed(123)
    torch.rand(7)
    again = _inputs_of_epoch(task, 1)
    assert len(first) == 6  # three batches
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for other in (_inputs_of_epoch(task, 2), _inputs_of_epoch(make_task(task.settings, seed=2), 1)):
        assert not any(torch.equal(one, another) for one, another in zip(first, other, strict=True))


def test_what_draws_random_numbers_between_epochs_has_no_say():
    task = make_task(change_settings(epochs=3, cutmix=1.0), augment=_ALL_CHANGES)
    undisturbed, history = _fit(tiny_cnn(), task)
    rows: list[dict] = []

    def disturb(all_rows: list[dict]) -> None:
        rows[:] = [dict(row) for row in all_rows]
        torch.manual_seed(len(rows))
        torch.rand(len(rows)), np.random.rand(3), random.random()

    assert same_bits(fit(tiny_cnn(), task, disturb), undisturbed)
    assert rows == history


def test_each_image_is_seen_once_an_epoch_also_when_the_last_batch_is_short():
    images = np.broadcast_to(np.arange(23, dtype=np.uint8)[:, None, None, None], (23, SIZE, SIZE, 3))
    task = make_task(train=Pack(np.ascontiguousarray(images), np.arange(23) % 3), augment=_NO_CHANGES)
    seen = torch.cat(_inputs_of_epoch(task, 0)[::2])[:, 0, 0, 0] * 0.229 + 0.485
    assert sorted((seen * 255).round().int().tolist()) == list(range(23))


def test_history_has_six_significant_digits(tmp_path):
    row = {"round": 1, "epoch": 12, "lr": 0.00012345678, "train_loss": 2 / 3, "train_accuracy": 0.5}
    write_history(tmp_path / "history.csv", [{**row, "val_loss": 1234567.0, "val_accuracy": 1.0, "best": 1}])
    lines = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [",".join(COLUMNS), "1,12,0.000123457,0.666667,0.5,1.23457e+06,1,1"]
