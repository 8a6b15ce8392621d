"""Models outside of this project: as an ONNX graph, in plain torchvision and in plain timm, they say the same."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import export
from stages.inference.ensembles import load_ensemble
from stages.inference.graphs import EnsembleGraph, pool, write_onnx
from stages.runtime.errors import UserError
from tests.small_models import BLOCKS, CLASSES, STORED, VOTES, noise, pictures, save_model, save_models

CPU = torch.device("cpu")
NO_DROPOUT = {"dropout": 0, "drop_path": 0}


def run_graph(path: Path, images: dict[int, np.ndarray]) -> np.ndarray:
    inputs = {f"images_{size_px}": each for size_px, each in images.items()}
    return pytest.importorskip("onnxruntime").InferenceSession(path).run(None, inputs)[0]


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert np.ptp(expected, axis=0).max() > 0.1  # the network does look


@pytest.mark.parametrize("vote", VOTES.values(), ids=VOTES)
def test_a_vote_of_tensors_is_that_of_arrays(vote):
    members = np.random.default_rng(1).dirichlet(np.full(6, 0.1), (3, 50)).astype(np.float32)
    members[:, :5] = np.eye(6, dtype=np.float32)[:5]  # no logarithm of zero
    found = pool(vote, torch.from_numpy(members)).numpy()
    np.testing.assert_allclose(found, vote.probabilities(members), rtol=0, atol=1e-5)


def test_the_network_that_is_exported_says_the_same_as_the_vote_of_members_of_two_sizes(tmp_path):
    save_models(tmp_path, "logarithmic_pool", VOTES["logarithmic_pool"])
    ensemble = load_ensemble(tmp_path)
    with torch.no_grad():
        found = EnsembleGraph(ensemble).eval()(*map(torch.from_numpy, pictures(5).values()))
    assert_same(found.numpy(), ensemble.predict_proba(pictures(5), CPU))


@pytest.mark.slow
def test_the_graph_of_a_vote_says_the_same_of_any_number_of_pictures_and_what_it_is(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    save_models(tmp_path, "logarithmic_pool", VOTES["logarithmic_pool"])
    monkeypatch.setattr(sys, "argv", ["export", f"{tmp_path}/vote.onnx", "--models", str(tmp_path)])
    export.main()
    images = pictures(5)
    expected = load_ensemble(tmp_path).predict_proba(images, CPU)
    assert_same(run_graph(tmp_path / "vote.onnx", images), expected)
    one = {size_px: each[3:4] for size_px, each in images.items()}
    np.testing.assert_allclose(run_graph(tmp_path / "vote.onnx", one), expected[3:4], rtol=0, atol=2e-6)
    properties = pytest.importorskip("onnx").load(tmp_path / "vote.onnx").metadata_props
    said = {each.key: each.value for each in properties}
    assert json.loads(said["classes"]) == CLASSES
    assert "images_36: uint8, (batch, 36, 36, 3), RGB from 0 to 255; images_68: " in said["input"]
    assert "cnn 0.7, resnet50 0.6" in said["what"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        BLOCKS["resnet50"],
        ("timm", {"network": "test_resnet", **NO_DROPOUT}),
        ("timm", {"network": "test_vit", "dropout": 0.1, "drop_path": 0.1}),
    ],
)
def test_every_architecture_can_be_exported(tmp_path, architecture, arguments):
    pytest.importorskip("onnxscript")
    save_model(tmp_path / "one.safetensors", architecture, arguments)
    ensemble = load_ensemble(tmp_path, "one")
    write_onnx(tmp_path / "one.onnx", ensemble)
    images = {STORED: noise(3)}
    assert_same(run_graph(tmp_path / "one.onnx", images), ensemble.predict_proba(images, CPU))


def test_without_the_packages_of_the_extra_it_is_a_users_mistake(tmp_path, monkeypatch):
    save_model(tmp_path / "cnn.safetensors", "cnn", {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0})
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(sys, "argv", ["export", f"{tmp_path}/a.onnx", "--models", str(tmp_path), "--model", "cnn"])
    with pytest.raises(UserError, match="onnx"):
        export.main()
    assert not (tmp_path / "a.onnx").exists()
