"""What is fetched: a timm network's weights without its classifier; Oxford 102; or why not. No network here."""

import pytest
import timm
from safetensors import safe_open

from stages import download, fetch
from stages.runtime.errors import UserError
from stages.runtime.files import unfinished, write_text


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


def test_flowers_are_arranged_by_class_and_nothing_half_done_is_left(tmp_path, monkeypatch):
    class Flowers:
        classes = ("pink primrose", "colt's foot?")

        def __init__(self, root, split, **_: object):
            if is_broken:
                raise RuntimeError("File not found or corrupted.")
            write_text(root / f"{split}.jpg", split)
            self.items = [(root / f"{split}.jpg", int(split == "val"))]

        def __getitem__(self, index: int):
            return self.items[index]

    monkeypatch.setattr("torchvision.datasets.Flowers102", Flowers)
    folder = tmp_path / "images"
    monkeypatch.setattr("sys.argv", ["download", str(folder)])
    write_text(unfinished(folder) / "arranged/3 rose/1.jpg", "what a killed download left")
    is_broken = True
    with pytest.raises(UserError, match="download failed"):
        download.main()
    assert list(tmp_path.iterdir()) == []
    is_broken = False
    download.main()
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    assert found == [
        "images/001 pink primrose/test.jpg",
        "images/001 pink primrose/train.jpg",
        "images/002 colt's foot/val.jpg",
    ]
    with pytest.raises(UserError, match="expected no such folder"):
        download.main()
