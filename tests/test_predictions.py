"""Prediction files: what is written is read, the same content gives the same bytes, and damage is named."""

from dataclasses import fields, replace

import numpy as np
import pytest

from stages.ensemble import read_members
from stages.runtime.errors import UserError
from stages.scoring.predictions import Predictions, read_predictions, write_predictions

PREDICTIONS = Predictions(
    val_probabilities=np.array([[0.25, 0.75]], dtype=np.float32),
    val_labels=np.array([1]),
    test_probabilities=np.array([[0.5, 0.5], [1.0, 0.0]], dtype=np.float32),
    test_labels=np.array([0, 1]),
    class_names=np.array(["NA", "Rose – 玫瑰"]),
)


def test_what_is_written_is_read(tmp_path):
    write_predictions(tmp_path / "new folder" / "cnn.npz", PREDICTIONS)
    found = read_predictions(tmp_path / "new folder" / "cnn.npz")
    for field in fields(Predictions):
        written, read = getattr(PREDICTIONS, field.name), getattr(found, field.name)
        assert read.dtype == written.dtype
        assert read.tolist() == written.tolist()


def test_the_same_predictions_give_the_same_bytes_under_any_name(tmp_path):
    for name in ("one", "two"):
        write_predictions(tmp_path / f"{name}.npz", PREDICTIONS)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_nothing_but_the_file_is_left(tmp_path):
    write_predictions(tmp_path / "cnn.npz", PREDICTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.npz"]


@pytest.mark.parametrize(("split", "n_labels"), [("val", 1), ("test", 2)])
def test_probabilities_that_do_not_fit_the_labels_are_refused_with_both_shapes(tmp_path, split, n_labels):
    wrong = replace(PREDICTIONS, **{f"{split}_probabilities": np.full((3, 2), 0.5)})
    write_predictions(tmp_path / "cnn.npz", wrong)
    with pytest.raises(UserError, match=rf"{split} probabilities .* shape \({n_labels}, 2\), found .* \(3, 2\)"):
        read_predictions(tmp_path / "cnn.npz")


def test_probabilities_that_do_not_fit_the_classes_are_refused(tmp_path):
    write_predictions(tmp_path / "cnn.npz", replace(PREDICTIONS, class_names=np.array(["a", "b", "c"])))
    with pytest.raises(UserError, match=r"shape \(1, 3\), found .* \(1, 2\)"):
        read_predictions(tmp_path / "cnn.npz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cnn\.npz: expected a prediction file, found none"):
        read_predictions(tmp_path / "cnn.npz")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_short_is_a_users_mistake(tmp_path, share):
    path = tmp_path / "cnn.npz"
    write_predictions(path, PREDICTIONS)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cnn\.npz: expected a prediction file, found none"):
        read_predictions(path)


def test_a_file_of_another_kind_is_a_users_mistake(tmp_path):
    (tmp_path / "text.npz").write_text("no arrays", encoding="utf-8")
    np.savez(tmp_path / "other.npz", something=np.zeros(2))
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(2))
    for name in ("text", "other", "array"):
        with pytest.raises(UserError, match=rf"{name}\.npz: expected a prediction file, found none"):
            read_predictions(tmp_path / f"{name}.npz")


def test_members_that_did_not_see_the_same_images_are_named(tmp_path):
    write_predictions(tmp_path / "cnn.npz", PREDICTIONS)
    write_predictions(tmp_path / "vgg16.npz", replace(PREDICTIONS, test_labels=np.array([1, 1])))
    with pytest.raises(
        UserError, match=r"vgg16\.npz: expected the same images .* in cnn\.npz, found other test labels"
    ):
        read_members(tmp_path, ["cnn", "vgg16"])


def test_members_come_in_the_order_that_was_asked_for(tmp_path):
    other = replace(PREDICTIONS, val_probabilities=np.array([[1.0, 0.0]], dtype=np.float32))
    write_predictions(tmp_path / "cnn.npz", PREDICTIONS)
    write_predictions(tmp_path / "vgg16.npz", other)
    found = read_members(tmp_path, ["vgg16", "cnn"])
    assert [member.val_probabilities.tolist() for member in found] == [[[1.0, 0.0]], [[0.25, 0.75]]]
