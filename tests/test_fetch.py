"""What is fetched: a timm network's weights without its classifier, or one line that says why not. No network here."""

import pytest
import timm
from safetensors import safe_open

from stages import fetch
from stages.runtime.errors import UserError


@pytest.mark.parametrize(
    ("timm_name", "classifiers"),
    [("resnet18.a1_in1k", {"fc"}), ("deit_tiny_distilled_patch16_224.fb_in1k", {"head", "head_dist"})],
)
def test_the_file_holds_all_but_the_classifier(tmp_path, monkeypatch, timm_name, classifiers):
    network = timm.create_model(timm_name, pretrained=False)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: network)
    monkeypatch.setattr("sys.argv", ["fetch", timm_name, f"{tmp_path}/weights.safetensors"])
    fetch.main()
    with safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"source": f"timm {timm_name}"}
        left_out = network.state_dict().keys() - set(file.keys())
    assert left_out == {f"{name}.{part}" for name in classifiers for part in ("weight", "bias")}


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"resnet50\.a1_in1k"):
        fetch.fetch_weights("resnet50.a1_in1")


def test_no_network_is_a_mistake_of_one_line(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"^resnet18\.a1_in1k: the download failed"):
        fetch.fetch_weights("resnet18.a1_in1k")
