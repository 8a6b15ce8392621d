"""Models outside this project give the same answers: as an ONNX graph, in plain torchvision and in plain timm."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages import export
from stages.inference.ensembles import Ensemble, Member, load_ensemble
from stages.inference.graphs import EnsembleGraph, pool, write_onnx
from stages.runtime.errors import UserError
from stages.scoring.voting import EqualVote
from tests.small_models import BLOCKS, CLASSES, STORED, VOTES, noise, pictures, save_model, save_models

CPU = torch.device("cpu")
NO_DROPOUT = {"dropout": 0, "drop_path": 0}


def run_graph(path: Path, images: dict[int, np.ndarray]) -> np.ndarray:
    inputs = {f"images_{size_px}": each for size_px, each in images.items()}
    return pytest.importorskip("onnxruntime").InferenceSession(path).run(None, inputs)[0]


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert np.ptp(expected, axis=0).max() > 0.1  # the answers differ between pictures


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


class Wayward(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :6, 0, 0] if images.sum() > 0 else images[:, :6, 1, 1]  # a graph cannot branch


class Blocks(nn.Module):
    """Attention within four blocks of a picture, as in timm's nest, and two clamps of a tensor, as in gemma4_vit."""

    def __init__(self):
        from timm.models.nest import Attention

        super().__init__()
        self.attention, self.head = Attention(12, num_heads=2), nn.Linear(12, len(CLASSES))
        for name, limit in (("low", -torch.inf), ("high", torch.inf)):
            self.register_buffer(name, torch.tensor(limit))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blocks = images.unflatten(2, (2, 16)).unflatten(4, (2, 16)).mean(dim=(3,)).permute(0, 2, 3, 4, 1).flatten(1, 2)
        features = self.attention(blocks.repeat(1, 1, 1, 4)).mean(dim=(1, 2)) * 2
        return self.head(features.clamp(self.low, self.high)) + features.clamp(self.low, self.high)[:, : len(CLASSES)]


def save_beside_cnn(folder: Path, network: nn.Module) -> Ensemble:
    """Return an ensemble of the small CNN and of some other network."""
    cnn = save_model(folder / "cnn.safetensors", *BLOCKS["cnn"])
    card = load_ensemble(folder, "cnn").members[0].card
    return Ensemble([Member("cnn", cnn, card), Member("odd", network.eval(), card)], EqualVote(np.full(2, 0.5)))


@pytest.mark.slow
def test_a_network_that_the_exporter_cannot_handle_is_one_line_that_names_its_member(tmp_path, capfd):
    pytest.importorskip("onnxscript")
    (tmp_path / "vote.onnx").write_text("old", encoding="utf-8")
    with pytest.raises(UserError) as raised:
        write_onnx(tmp_path / "vote.onnx", save_beside_cnn(tmp_path, Wayward()))
    assert "odd (" in str(raised.value)
    assert len(str(raised.value)) < 500
    assert len(capfd.readouterr().err.splitlines()) == 1  # from loading
    assert (tmp_path / "vote.onnx").read_text(encoding="utf-8") == "old"


@pytest.mark.slow
def test_attention_of_any_shape_and_clamps_are_exported_and_attention_is_fused_afterwards_as_before(tmp_path):
    pytest.importorskip("onnxscript")
    torch.manual_seed(1)
    network = Blocks()
    ensemble = save_beside_cnn(tmp_path, network)
    write_onnx(tmp_path / "vote.onnx", ensemble)
    images = {STORED: noise(3)}
    np.testing.assert_allclose(
        run_graph(tmp_path / "vote.onnx", images), ensemble.predict_proba(images, CPU), atol=2e-6
    )
    assert network.attention.fused_attn


def test_without_the_packages_of_the_extra_it_is_a_users_mistake(tmp_path, monkeypatch):
    save_model(tmp_path / "cnn.safetensors", "cnn", {"filters": 2, "padding": "same", "dense_units": 4, "dropout": 0})
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(sys, "argv", ["export", f"{tmp_path}/a.onnx", "--models", str(tmp_path), "--model", "cnn"])
    with pytest.raises(UserError, match="onnx"):
        export.main()
    assert not (tmp_path / "a.onnx").exists()
