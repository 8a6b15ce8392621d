"""The learning-rate range test: its curve, the suggested rate, and the data that it does not use."""

import csv
import sys

import numpy as np
import pytest

from stages.experiments import range_test
from stages.experiments.range_test import smooth, suggest_rate, try_rates
from stages.runtime.errors import UserError
from tests.parameters import write_params
from tests.trainings import change_settings, make_job, plain_split, tiny_cnn


def test_the_running_mean_of_equal_losses_is_that_loss_from_the_first_on():
    np.testing.assert_allclose(smooth(np.full(5, 3.0)), 3.0, rtol=0, atol=1e-12)
    # the later of 1 and 2 has more weight: (0.9 * 1 + 2) / (0.9 + 1)
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0])), [1.0, 2.9 / 1.9], rtol=0, atol=1e-12)


def test_rates_rise_by_one_factor_until_the_loss_explodes():
    rates, losses = try_rates(tiny_cnn(), make_job(change_settings(optimizer="sgd", lr=1.0)), 40)
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e6 ** (1 / 39), rtol=1e-9)
    assert rates[0] == range_test.LOWEST
    assert len(rates) == len(losses) > 20


def test_a_pack_of_the_train_split_alone_is_enough_and_its_curve_has_the_suggested_rate(tmp_path, monkeypatch, capsys):
    block = {"architecture": "cnn", "weights": "data/weights/scratch", "lr": 0.001, "epochs": 2, "batch_size": 8}
    block |= {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0.5, "image_size_px": 16}
    split = plain_split([0, 1, 2] * 10)
    params = {"models": {"cnn": block}, "image_sizes_px": [16], "audit__image_size_px": 16}
    write_params(tmp_path / "params.yaml", **params)
    (tmp_path / "packed/16/train").mkdir(parents=True)
    for name in ("images", "labels"):
        np.save(tmp_path / f"packed/16/train/{name}.npy", getattr(split, name))
    (tmp_path / "packed/16/classes.json").write_text('["red", "green", "blue"]', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["range_test", "cnn", "--packed", "packed", "--out", "out", "--steps", "30"])
    range_test.main()
    with (tmp_path / "out/cnn.csv").open(encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    suggested = suggest_rate(*(np.array([row[key] for row in rows]) for key in ("lr", "smoothed_loss")))
    assert f"suggested lr {suggested:.1e}" in capsys.readouterr().out
    assert (tmp_path / "out/cnn.png").stat().st_size > 0
    write_params(tmp_path / "params.yaml", **params, pack__margin=0.5)
    with pytest.raises(UserError, match="dvc repro pack"):
        range_test.main()


def test_the_suggested_rate_is_the_lowest_with_four_fifths_of_the_fall_done():
    # from 5 down to 1: four fifths of the decrease are reached at 1.8
    rates = np.array([0.001, 0.002, 0.004, 0.008, 0.016, 0.032])
    assert suggest_rate(rates, np.array([4.0, 5.0, 1.9, 1.7, 1.0, 9.0])) == 0.008
