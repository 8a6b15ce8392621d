"""Weights of timm from a local hub: the weights without the classifier, or one line with the reason."""

import hashlib
import io
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save

from stages import fetch
from stages.networks.cards import write_card
from stages.networks.model_files import build_network
from stages.networks.start_weights import load_start_weights
from stages.runtime.process import exit_cleanly
from tests.hub import Hub

NAME = "test_resnet.r160_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """Return a local hub for the client, with an empty cache and without pauses."""
    constants = huggingface_hub.constants
    with Hub() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
        monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda duration_s: None)
        yield served
    socket.setdefaulttimeout(None)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that fetches as the stage does, and returns the exit code, the output and the file."""

    def fetch_named(name: str = NAME) -> tuple[int, str, Path]:
        file = tmp_path / "out" / "weights.safetensors"
        monkeypatch.setattr(sys, "argv", ["fetch", name, str(file)])
        code = 0
        try:
            exit_cleanly(fetch.main)
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr().err
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == (code != 0)
        assert "Traceback" not in said
        assert [*file.parent.glob("*"), *file.parent.glob(".*")] == [file] * file.exists()  # nothing half-written
        return code, "".join(errors), file

    return fetch_named


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Return random weights, each tensor with its own memory."""
    return {key: tensor.clone() for key, tensor in timm.create_model(name.partition(".")[0]).state_dict().items()}


CLASSIFIERS = {
    NAME: {"fc"},
    "test_vit.r160_in1k": {"head"},
    "deit_tiny_distilled_patch16_224.fb_in1k": {"head", "head_dist"},
    "coat_tiny.in1k": {"head"},  # some of its layers share their tensors
}


@pytest.mark.parametrize(("name", "classifiers"), CLASSIFIERS.items())
def test_the_file_holds_all_but_the_classifier(hub, run, name, classifiers):
    weights = weights_of(name)
    hub.files["model.safetensors"] = save(weights)
    code, _, file = run(name)
    fetched = load_file(file)
    assert code == 0
    assert weights.keys() - fetched.keys() == {f"{each}.{part}" for each in classifiers for part in ("weight", "bias")}
    assert all(torch.equal(weights[key], tensor) for key, tensor in fetched.items())


def test_a_network_without_a_classifier_is_fetched_whole(hub, run, monkeypatch):
    config = timm.models._registry._model_pretrained_cfgs["test_vit.r160_in1k"]  # timm's real one has 90 M weights
    monkeypatch.setattr(config, "classifier", None)
    monkeypatch.setattr(config, "num_classes", 0)
    weights = timm.create_model("test_vit", num_classes=0).state_dict()
    hub.files["model.safetensors"] = save(weights)
    code, _, file = run("test_vit.r160_in1k")
    assert code == 0
    assert load_file(file).keys() == weights.keys()


def test_a_file_of_the_older_kind_is_fetched(hub, run):
    older = io.BytesIO()
    torch.save(weights_of(NAME), older)
    hub.files["pytorch_model.bin"] = older.getvalue()
    assert run()[0] == 0


def test_the_file_says_what_its_weights_are_and_starts_the_same_network(hub, run):
    weights = weights_of(NAME)
    hub.files["model.safetensors"] = save(weights)
    file = run()[2]
    card = write_card("timm", {"network": NAME, "dropout": 0.0, "drop_path": 0.0}, ["a"], (32, 32), "scratch")
    network = build_network(card)
    start = load_start_weights(network, file, card.mean, card.std)
    assert start.startswith(f"timm {NAME} (apache-2.0) (sha256 ")
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


@pytest.mark.parametrize(
    "faults",
    [["redirect"], [503, 503], [429], ["hang", "hang"], [None, None, "truncated"], [None, None, "hang"]],
    ids=["a redirect", "busy at first", "too many", "no answer at first", "half a body", "no body at first"],
)
def test_a_fault_that_passes_changes_nothing(hub, run, faults):
    weights = weights_of(NAME)
    hub.files["model.safetensors"] = save(weights)
    hub.faults.extend(faults)
    code, _, file = run()
    assert code == 0
    assert not hub.faults
    assert torch.equal(load_file(file)["conv1.0.weight"], weights["conv1.0.weight"])


REFUSALS = {
    "there is none": ([404] * 99, "404"),
    "behind a licence": ([401] * 99, "HF_TOKEN"),
    "forbidden": ([403] * 99, "HF_TOKEN"),
    "out of order": ([503] * 99, "503"),
    "no answer": (["hang"] * 99, "no complete answer"),
    "never more than half of it": ([None, None, *["truncated"] * 99], "no complete answer"),
    "no body": ([None, None, *["hang"] * 99], "no complete answer"),
}


@pytest.mark.parametrize(("faults", "says"), REFUSALS.values(), ids=REFUSALS)
def test_a_fault_that_lasts_is_one_line_and_the_next_run_succeeds(hub, run, faults, says):
    hub.files["model.safetensors"] = save(weights_of(NAME))
    hub.faults.extend(faults)
    code, said, file = run()
    assert code == 2
    assert not file.exists()
    assert NAME in said
    assert says in said
    assert len(faults) - len(hub.faults) < 20  # less than a minute: a client asks six times for a name
    hub.faults.clear()
    assert run()[0] == 0
    assert file.exists()


@pytest.mark.parametrize("name", [NAME, "test_vit.r160_in1k", "test_convnext.r160_in1k"])
@pytest.mark.parametrize("body", [save({"a.weight": torch.zeros(2)}), b"<html>"], ids=["another's", "a page"])
def test_a_file_that_is_not_the_networks_is_one_line(hub, run, name, body):
    hub.files["model.safetensors"] = body
    code, said, file = run(name)
    assert (code, file.exists()) == (2, False)
    assert "choose other weights" in said


def test_weights_that_are_not_on_a_hub_are_fetched_from_their_address(hub, run, tmp_path, monkeypatch):
    config = timm.models._registry._model_pretrained_cfgs[NAME]
    monkeypatch.setattr(config, "hf_hub_id", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    older = io.BytesIO()
    torch.save(weights_of(NAME), older)
    name = f"weights-{hashlib.sha256(older.getvalue()).hexdigest()[:8]}.pth"
    monkeypatch.setattr(config, "url", f"{hub.url}/{name}")
    hub.files[name] = older.getvalue()
    for fault, says in ((404, "404"), (503, "503"), ("hang", "no complete answer"), ("truncated", "hash")):
        hub.faults.append(fault)
        code, said, file = run()
        assert (code, file.exists()) == (2, False)
        assert says in said
    assert run()[0] == 0


def test_what_the_hub_has_given_before_needs_no_network(hub, run):
    hub.files["model.safetensors"] = save(weights_of(NAME))
    assert run()[0] == 0
    hub.faults.extend(["hang"] * 99)
    assert run()[0] == 0


def test_an_unknown_name_is_answered_with_the_nearest(hub, run):
    code, said, _ = run("resnet50.a1_in1")
    assert code == 2
    assert "resnet50.a1_in1k" in said
