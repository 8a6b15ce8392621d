"""Training of very small networks: it learns, gives the same bits again, and follows its settings."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages.models import resnet50, timm, vgg
from stages.models.cnn import build_model
from stages.pixels.packed_splits import PackedSplit
from stages.runtime.errors import UserError
from stages.settings.types import Phase
from stages.training import job as job_module
from stages.training.history import COLUMNS, write_history
from stages.training.job import Job, check_processes, place_network, prepare, read_recipe
from stages.training.processes import Processes
from stages.training.trainer import Trainer, fit
from tests.parameters import write_params
from tests.trainings import (
    AUGMENT,
    CPU,
    SIZE,
    STILL,
    change_settings,
    copy_state,
    linear_network,
    make_job,
    noise_split,
    numbered_split,
    numbers_of,
    plain_split,
    same_bits,
    tiny_cnn,
)

ALL_CHANGES = AUGMENT.model_copy(
    update={"rotation_deg": 10, "zoom": 0.1, "shift": 0.1, "colour": 0.2, "policy": "trivialaugment", "erase": 0.5}
)
SPOILT = {"phases": [Phase(epochs=4, lr=0.01)], "lr": 30.0}  # four good epochs, then a rate that ruins the weights


def run(network: nn.Module, job: Job, disturb=lambda: None) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Return the best weights, and the last history that was passed on."""
    history: list[dict] = []

    def keep(rows: list[dict]) -> None:
        assert len(rows) == len(history) + 1
        history[:] = [dict(row) for row in rows]
        disturb()

    return fit(network, job, keep), history


def spy(network: nn.Module, training: bool = True) -> list[torch.Tensor]:
    """Return a list that collects the batches that the network gets in training, or in validation."""
    shown: list[torch.Tensor] = []
    network.register_forward_pre_hook(
        lambda net, inputs: shown.append(inputs[0].clone()) if net.training == training else None
    )
    return shown


def states_after_epochs(network: nn.Module, job: Job) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Return the states of backbone and head before the training and at each validation."""
    states, learning = [], True

    def keep(net: nn.Module, _: tuple) -> None:
        nonlocal learning
        if learning and not net.training:
            states.append({part: copy_state(getattr(net, part).state_dict()) for part in ("backbone", "head")})
        learning = net.training

    keep(network.eval(), ())
    network.register_forward_pre_hook(keep)
    fit(network, job, on_epoch=lambda rows: None)
    return states


def test_plain_colours_are_learnt_without_a_mistake():
    settings = change_settings(epochs=12, precision="bf16", schedule="cosine", warmup_epochs=1, label_smoothing=0.1)
    torch.manual_seed(1)
    network = build_model(3, SIZE, filters=4, padding="same", dense_units=16, dropout=0)
    before = copy_state(network.state_dict())
    best, history = run(network, make_job(settings))
    assert max(row["val_accuracy"] for row in history) == 1
    assert [name for name in before if torch.equal(before[name], best[name])] == []


def test_the_same_seed_gives_the_same_bits_whatever_else_draws_and_another_seed_others():
    job = make_job(change_settings(epochs=3, mixup=0.5, cutmix=1.0), augment=ALL_CHANGES)
    best, history = run(tiny_cnn(), job)
    again, history_again = run(tiny_cnn(), job, disturb=lambda: torch.rand(7))
    assert same_bits(best, again)
    assert history == history_again
    assert not same_bits(best, run(tiny_cnn(), make_job(job.settings, augment=ALL_CHANGES, seed=2))[0])


def test_dropout_does_not_draw_the_numbers_that_shuffle_the_images():
    network, drawn = linear_network(), []
    shown = spy(network)
    # the random numbers of dropout are the first of the global generator in an epoch
    network.register_forward_pre_hook(lambda net, _: drawn.append(torch.randperm(23)[:10].tolist()))
    run(network, make_job(change_settings(epochs=1), numbered_split(23)))
    assert numbers_of(shown[0]) != drawn[0]


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(5, [4, 4, 4, 4, 5]), (20, [10, 11]), (2, [2] * 9 + [3]), (99, [21])]
)
def test_each_image_is_seen_once_an_epoch_in_another_order_in_batches_of_even_size(batch_size, sizes):
    network = linear_network()
    shown = spy(network)
    run(network, make_job(change_settings(batch_size=batch_size), numbered_split(21)))
    epochs = shown[: len(sizes)], shown[len(sizes) :]
    first, second = (numbers_of(torch.cat(epoch)) for epoch in epochs)
    assert [sorted(map(len, epoch)) for epoch in epochs] == [sizes] * 2
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second


def test_the_network_ends_with_the_weights_of_the_row_that_is_marked_best(capsys):
    network, job = tiny_cnn(), make_job(change_settings(epochs=6, **SPOILT))
    best, history = run(network, job)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["cnn", "epoch", f"{number}/6"] for number in range(1, 7)]
    (marked,) = [row for row in history if row["best"]]
    assert marked is max(history, key=lambda row: (row["val_accuracy"], -row["val_loss"]))  # ties: smallest loss
    assert marked["val_accuracy"] > history[-1]["val_accuracy"]
    assert Trainer(network, job).score("val") == (marked["val_loss"], marked["val_accuracy"])
    assert same_bits(best, network.state_dict())


ROWS = [(0.5, 0.9), (0.75, 0.8), (0.75, 0.7), (0.5, 0.6), (0.5, 0.65)]  # validation accuracy and loss of each epoch


@pytest.mark.parametrize(("keep", "best"), [("accuracy", 2), ("loss", 3), ("last", 4)])
def test_the_best_epoch_is_that_of_the_highest_accuracy_and_then_the_least_loss_or_as_asked(keep, best):
    trainer = Trainer(tiny_cnn(), make_job(change_settings(epochs=len(ROWS), keep=keep)))
    for number, (accuracy, loss) in enumerate(ROWS):
        trainer.keep_best({"epoch": number + 1, "val_accuracy": accuracy, "val_loss": loss, "best": 0})
    assert [row["best"] for row in trainer.history] == [int(number == best) for number in range(len(ROWS))]


def test_a_small_set_is_seen_several_times_an_epoch_until_there_are_enough_steps():
    network = linear_network()
    shown = spy(network)
    # two batches for seven images: 3 epochs of 2 passes are 12 steps, where 3 of 1 would be 6
    run(network, make_job(change_settings(epochs=3, batch_size=4, min_steps=7), numbered_split(7)))
    assert [len(batch) for batch in shown] == [3, 4, 3, 4] * 3
    assert sorted(numbers_of(torch.cat(shown[:4]))) == sorted(2 * list(range(7)))
    assert sorted(numbers_of(torch.cat(shown[:4])[:7])) == list(range(7))


@pytest.mark.parametrize(("patience", "n_epochs"), [(0, 5), (2, 3)])
def test_patience_counts_the_epochs_since_the_best_one(patience, n_epochs):
    _, history = run(linear_network(), make_job(change_settings(epochs=5, lr=STILL, patience=patience)))
    assert [(row["epoch"], row["best"]) for row in history] == [(n + 1, int(n == 0)) for n in range(n_epochs)]


def test_epochs_are_numbered_as_they_come_also_where_patience_ends_a_round():
    settings = change_settings(epochs=5, rounds=2, lr=STILL, patience=2, schedule="cosine")
    _, history = run(linear_network(), make_job(settings))
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["round"] for row in history] == [1, 1, 1, 2, 2, 2]
    rates = [row["lr"] for row in history]
    assert rates[:3] == rates[3:]  # the schedule starts again
    assert STILL == rates[0] > rates[1] > rates[2]


def test_a_round_starts_from_the_best_weights_so_far():
    settings = change_settings(epochs=2, rounds=2, batch_size=30, phases=[Phase(epochs=1, lr=STILL)], lr=30.0)
    right = plain_split([0, 1, 2] * 10)
    wrong = PackedSplit(right.images, (right.labels + 1) % 3)  # learning from it makes answers wrong
    network, begun = linear_network(bias=(1, 0, 0)), []
    # one batch per epoch: each is the state of the network at the beginning of the epoch
    network.register_forward_pre_hook(lambda net, _: begun.append(net.head.bias.clone()) if net.training else None)
    _, history = run(network, make_job(settings, train=wrong))
    assert [row["val_accuracy"] for row in history[:2]] == pytest.approx([1 / 3, 0])
    assert torch.equal(begun[2], begun[1])  # the state at the end of the best epoch, the first
    assert not torch.equal(network.head.bias, begun[3])


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_model(3, 32, filters=2, padding="same", dense_units=4, dropout=0.5),
        lambda: vgg.build_model(3, 32, depth=11, batch_norm=True, filters=2, dense_units=4, dropout=0.5),
        lambda: resnet50.build_model(3, 32, filters=2),
        lambda: timm.build_model(3, 32, network="resnet18", dropout=0.5, drop_path=0),
    ],
    ids=["cnn", "vgg", "resnet50", "timm"],
)
def test_frozen_epochs_leave_every_tensor_of_the_backbone_as_it_was(build):
    settings = change_settings(frozen_epochs=1, weight_decay=0.1, batch_size=2, optimizer="adamw")
    images = noise_split(4, 34)
    network, job = build(), make_job(settings, images, images, size_px=32)
    start, first, second = states_after_epochs(network, job)
    assert any("running_mean" in name for name in start["backbone"])
    assert same_bits(start["backbone"], first["backbone"])
    assert not same_bits(start["head"], first["head"])
    assert not same_bits(first["backbone"], second["backbone"])


def test_the_backbone_is_frozen_again_in_the_next_round():
    states = states_after_epochs(tiny_cnn(), make_job(change_settings(epochs=2, rounds=2, frozen_epochs=1)))
    # the second round starts from the best epoch of the first
    assert any(same_bits(states[3]["backbone"], states[epoch]["backbone"]) for epoch in (1, 2))
    assert not same_bits(states[3]["backbone"], states[4]["backbone"])


LN2 = math.log(2)
BIAS = (LN2, 0.0, 0.0)  # probabilities 1/2, 1/4, 1/4: losses ln 2, 2 ln 2, 2 ln 2
UNEVEN = [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (4 + 2 + 2) / 6),
        # weights of 6 / (3 * 4), 6 / (3 * 1) and the same, whose mean over the six images is 1
        ({"class_weights": "balanced"}, (4 * 0.5 + 2 * 2 + 2 * 2) / (4 * 0.5 + 2 + 2)),
        # a share of 0.3 is spread over the classes, whose losses are 1, 2 and 2
        ({"label_smoothing": 0.3}, 0.7 * 8 / 6 + 0.3 * 5 / 3),
    ],
    ids=str,
)
def test_losses_are_those_of_the_images_by_hand(changes, expected):
    settings = change_settings(epochs=1, lr=STILL, **changes)
    _, (row,) = run(linear_network(BIAS), make_job(settings, plain_split(UNEVEN), plain_split([0, 1])))
    assert row["train_loss"] == pytest.approx(LN2 * expected, rel=1e-5)
    assert row["train_accuracy"] == pytest.approx(4 / 6, rel=1e-6)
    assert (row["val_loss"], row["val_accuracy"]) == (pytest.approx(LN2 * 1.5, rel=1e-5), 0.5)  # plain


def test_gradients_are_clipped_to_the_norm_that_is_asked_for():
    def step(gradient_clip: float) -> torch.Tensor:
        network = linear_network()
        settings = change_settings(optimizer="sgd", epochs=1, batch_size=30, gradient_clip=gradient_clip)
        fit(network, make_job(settings, plain_split([0] * 30)), on_epoch=lambda rows: None)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    whole, clipped = step(0), step(0.1)
    assert clipped.norm().item() == pytest.approx(0.01 * 0.1, rel=1e-4)  # learning rate times norm
    torch.testing.assert_close(clipped / clipped.norm(), whole / whole.norm(), rtol=1e-4, atol=1e-6)
    assert torch.equal(step(1e6), whole)


def test_a_loss_that_is_no_number_is_named_with_its_epoch_batch_and_rate():
    # STILL as the first phase keeps the first epoch finite; the next step makes weights of 1e30 and more
    phases = [Phase(epochs=1, lr=STILL)]
    settings = change_settings(optimizer="sgd", lr=1e38, phases=phases, schedule="cosine", batch_size=15)
    with pytest.raises(UserError, match=r"epoch 2, batch 2 .* lr 5e\+37"):  # half of lr, in the middle of the cosine
        fit(linear_network(), make_job(settings), on_epoch=lambda rows: None)


def test_nothing_is_learnt_from_the_validation_images():
    settings = change_settings(epochs=1)
    best, _ = run(tiny_cnn(), make_job(settings))
    assert same_bits(best, run(tiny_cnn(), make_job(settings, val=noise_split(9)))[0])


@pytest.mark.parametrize(("batch_size", "n_images", "sizes"), [(5, 12, [5, 5, 2]), (1000, 200, [128, 72])])
def test_validation_takes_no_larger_batches_than_training_and_no_more_than_128_images(batch_size, n_images, sizes):
    network = linear_network()
    shown = spy(network, training=False)
    run(network, make_job(change_settings(epochs=1, batch_size=batch_size), val=noise_split(n_images)))
    assert [len(batch) for batch in shown] == sizes


def test_the_average_of_the_weights_is_what_is_validated_and_kept():
    network, job = tiny_cnn(), make_job(change_settings(epochs=1, ema_decay=0.5))
    best, (row,) = run(network, job)
    assert Trainer(network, job).score("val") == (row["val_loss"], row["val_accuracy"])
    assert not same_bits(best, run(tiny_cnn(), make_job(change_settings(epochs=1)))[0])


def test_the_history_has_six_significant_digits(tmp_path):
    row = {"round": 1, "epoch": 12, "lr": 0.00012345678, "train_loss": 2 / 3, "train_accuracy": 0.5}
    write_history(tmp_path / "history.csv", [{**row, "val_loss": 1234567.0, "val_accuracy": 1.0, "best": 1}])
    lines = (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()
    assert lines == [",".join(COLUMNS), "1,12,0.000123457,0.666667,0.5,1.23457e+06,1,1"]


def test_a_device_that_only_emulates_bf16_trains_in_fp32_and_says_so(monkeypatch, capsys, tmp_path):
    block = {"architecture": "cnn", "weights": "data/weights/scratch", "lr": 0.001, "epochs": 2, "precision": "bf16"}
    block |= {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5, "image_size_px": SIZE}
    write_params(tmp_path / "params.yaml", models={"cnn": block}, image_sizes_px=[SIZE], audit__image_size_px=SIZE)
    recipe, splits = read_recipe(tmp_path / "params.yaml", "cnn"), (plain_split([0, 1, 2]), plain_split([0, 1, 2]))
    for able in (True, False):
        monkeypatch.setattr(job_module, "computes_bf16", lambda _, able=able: able)
        assert prepare(recipe, "cnn", ["red", "green", "blue"], splits, CPU)[2].in_bf16 == able
        assert ("bf16" in capsys.readouterr().out) == (not able)


@pytest.mark.parametrize("grey_bits", [None, 12])
def test_a_job_and_its_model_are_those_of_the_parameters_and_of_the_images(grey_bits, tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "load_start_weights", lambda network, *given: given)
    monkeypatch.setattr(job_module, "computes_bf16", lambda device: True)
    recipe = read_recipe(write_params(tmp_path / "params.yaml"), "cnn")
    settings, given = recipe.models["cnn"], {"groups": np.arange(4), "code": "hashes", "processes": Processes(0, 2)}
    train, val = replace(noise_split(4, size_px=36), grey_bits=grey_bits), noise_split(5, size_px=36)
    network, card, job = prepare(recipe, "cnn", ["red", "green", "blue"], (train, val), CPU, **given)
    assert (card.grey_bits, card.start) == (grey_bits, (Path(settings.weights), card.mean, card.std))
    fields = {"settings": settings, "augment": recipe.augment, "seed": recipe.seed, "view": card.view(CPU), **given}
    assert job == Job(name="cnn", train=train, val=val, n_classes=3, in_bf16=True, **fields)
    again, *_ = prepare(recipe, "cnn", ["red", "green", "blue"], (train, val), CPU, **given)
    assert same_bits(network.state_dict(), again.state_dict())
    with pytest.raises(UserError, match=r"one of cnn, .*'rose'"):
        read_recipe(tmp_path / "params.yaml", "rose")


def test_more_processes_than_a_batch_has_images_for_and_statistics_of_all_cpus_are_refused():
    def check(n_processes: int, n_images: int = 8, **settings) -> None:
        job = make_job(change_settings(**settings), noise_split(n_images), processes=Processes(0, n_processes))
        check_processes(job)

    check(4, batch_size=8)
    check(1, n_images=1, batch_size=1, sync_batch_norm=True)
    for settings in ({"batch_size": 7}, {"n_images": 7, "batch_size": 8}, {"batch_size": 8, "sync_batch_norm": True}):
        with pytest.raises(UserError, match=r"^cnn: .*processes|^cnn: sync_batch_norm"):
            check(4, **settings)


@pytest.mark.parametrize(
    ("n_processes", "sync", "compiled"), [(1, True, "none"), (2, False, "none"), (2, True, "default")]
)
def test_a_network_is_placed_on_its_device_with_the_statistics_and_the_compiler_asked_for(
    n_processes, sync, compiled, monkeypatch
):
    calls: list[bool] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, dynamic: calls.append(dynamic))
    job = make_job(change_settings(sync_batch_norm=sync, compile=compiled), processes=Processes(0, n_processes))
    network = place_network(tiny_cnn(), replace(job, view=replace(job.view, device=torch.device("meta"))))
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    assert all(
        tensor.is_contiguous(memory_format=torch.channels_last) for tensor in network.parameters() if tensor.ndim == 4
    )
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules()) == (sync and n_processes > 1)
    assert calls == [False] * (compiled != "none")
