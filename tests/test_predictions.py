"""Prediction files: reading returns what was written, and the same content gives the same bytes."""

from dataclasses import fields, replace

import numpy as np
import pytest

from stages.runtime.errors import UserError
from stages.scoring.predictions import Predictions, read_members, read_predictions, write_predictions

PREDICTIONS = Predictions(
    val_probabilities=np.array([[0.25, 0.75]], dtype=np.float32),
    val_labels=np.array([1]),
    val_groups=np.array([-(2**63)]),
    test_probabilities=np.array([[0.5, 0.5], [1.0, 0.0]], dtype=np.float32),
    test_labels=np.array([0, 1]),
    test_groups=np.array([7, 7]),
    class_names=np.array(["NA", "Rose – 玫瑰"]),
)


def test_what_is_written_is_read(tmp_path):
    write_predictions(tmp_path / "new folder" / "cnn.npz", PREDICTIONS)
    found = read_predictions(tmp_path / "new folder" / "cnn.npz")
    for field in fields(Predictions):
        written, read = getattr(PREDICTIONS, field.name), getattr(found, field.name)
        assert read.dtype == written.dtype
        assert read.tolist() == written.tolist()


def test_the_same_predictions_give_the_same_bytes_under_any_name_and_nothing_else(tmp_path):
    for name in ("one", "two"):
        write_predictions(tmp_path / f"{name}.npz", PREDICTIONS)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npz", "two.npz"]


def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"cnn\.npz: .*`dvc repro`"):
        read_predictions(tmp_path / "cnn.npz")


def test_a_file_of_an_earlier_version_is_a_users_mistake(tmp_path):
    np.savez(tmp_path / "cnn.npz", val_probabilities=PREDICTIONS.val_probabilities)
    with pytest.raises(UserError, match=r"cnn\.npz"):
        read_predictions(tmp_path / "cnn.npz")


@pytest.mark.parametrize("key", ["val_groups", "test_labels", "class_names"])
def test_members_that_were_asked_about_other_pictures_do_not_vote_together(tmp_path, key):
    write_predictions(tmp_path / "a.npz", PREDICTIONS)
    write_predictions(tmp_path / "b.npz", replace(PREDICTIONS, val_probabilities=np.array([[1.0, 0.0]])))
    assert list(read_members(tmp_path, ["b", "a"])) == ["b", "a"]
    write_predictions(tmp_path / "b.npz", replace(PREDICTIONS, **{key: getattr(PREDICTIONS, key)[:0]}))
    with pytest.raises(UserError, match=r"b\.npz") as error:
        read_members(tmp_path, ["a", "b"])
    assert len(error.value.args) == 1
