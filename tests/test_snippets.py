"""The Python code in docs/ runs unchanged, and gives the same answers as `predict` for each kind of picture."""

import io
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from stages import predict
from stages.inference.ensembles import load_ensemble
from stages.inference.graphs import describe, write_onnx
from tests.image_folders import picture
from tests.repository import ROOT
from tests.small_models import BLOCKS, CLASSES, VOTES, save_model, save_models

PAGES = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SNIPPETS = {
    page.name: re.findall(r"^```python\n(.+?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for page in PAGES
}
PICTURE = Path("data/flowers/images/sunflower/0004.jpg")  # all snippets read it; the content decides the format
GREY_BITS = 12  # of the training folder
VIT, DISTILLED = "test_vit", "deit_tiny_distilled_patch16_224"  # the latter has two classifiers


def save(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_pictures() -> dict[str, bytes]:
    """Return a file of each kind whose pixels differ from what an image library gives."""
    image = picture(1, (270, 288))  # a JPEG of it is decoded at half its size
    alpha = Image.linear_gradient("L").resize(image.size)
    wide = 4 * np.asarray(image.convert("L")).astype(np.uint16)  # 10 bits of the 12 of the folder
    tiff, (white, black) = save(Image.fromarray(wide), "TIFF"), (struct.pack("<HHIH", 262, 3, 1, i) for i in (0, 1))
    assert black in tiff  # the tag that defines the meaning of 0
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "RGB": save(image, "PNG"),
        "a large JPEG": save(image, "JPEG"),
        "a JPEG to be turned": save(image, "JPEG", exif=exif),
        "a CMYK JPEG": save(image.convert("CMYK"), "JPEG"),
        "RGBA": save(Image.merge("RGBA", [*image.split(), alpha]), "PNG"),
        "grey with alpha": save(Image.merge("LA", [image.convert("L"), alpha]), "PNG"),
        "a palette with transparency": save(image.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
        "grey of 16 bits": save(Image.fromarray(wide), "PNG"),
        "grey of 16 bits whose zero is white": tiff.replace(black, white),
        "a profile of other colours": save(image, "PNG", icc_profile=swapped),
    }


def find_snippets(text: str) -> list[str]:
    """Return the snippet that contains a text, preceded by the snippets above that it may use."""
    ((codes, number),) = [(codes, i) for codes in SNIPPETS.values() for i, each in enumerate(codes) if text in each]
    return [each for each in codes[:number] if "\ndef " in each] + [codes[number]]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Work in a folder with pictures of all kinds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUINTET_DEVICE", "cpu")
    for path in (PICTURE.parent, Path("pictures")):
        path.mkdir(parents=True)
    for name, content in make_pictures().items():
        Path("pictures", name).write_bytes(content)
    return tmp_path


def assert_says_what_predict_says(codes: list[str], model: str | None) -> None:
    """Run snippets for a picture of each kind, and compare the resulting `probabilities`."""
    paths, found = [str(path) for path in sorted(Path("pictures").iterdir())], []
    for path, answer in predict.answer(paths, Path("data/models"), model):
        PICTURE.write_bytes(Path(path).read_bytes())
        namespace: dict = {}
        for code in codes:
            exec(compile(code, "snippet", "exec"), namespace)
        found.append(np.asarray(namespace["probabilities"]))
        shares = [found[-1][CLASSES.index(name)] for name, _ in answer.top]
        np.testing.assert_allclose(shares, [share for _, share in answer.top], rtol=0, atol=1e-5, err_msg=path)
    assert np.ptp(found, axis=0).max() > 0.05  # the answers differ between pictures


def test_every_snippet_is_run():
    asking = ["vote.onnx", *(f'open_model("{name}")' for name in ("vgg16", "resnet50", "sixth"))]  # below
    run = {code for text in asking for code in find_snippets(text)}
    assert run == {code for codes in SNIPPETS.values() for code in codes}


@pytest.mark.parametrize(
    ("name", "architecture", "arguments"),
    [
        ("vgg16", *BLOCKS["vgg"]),
        pytest.param("resnet50", "resnet50", {"filters": 64}, marks=pytest.mark.slow),
        ("sixth", "timm", {"network": "test_resnet", "dropout": 0.1, "drop_path": 0.1}),
        ("sixth", "timm", {"network": VIT, "dropout": 0, "drop_path": 0}),
        ("sixth", "timm", {"network": DISTILLED, "dropout": 0, "drop_path": 0}),
    ],
    ids=["vgg16", "resnet50", "timm", "vit", "two classifiers"],
)
def test_a_model_opened_in_torchvision_or_timm_says_what_predict_says(folder, name, architecture, arguments):
    save_model(Path(f"data/models/{name}.safetensors"), architecture, arguments, grey_bits=GREY_BITS)
    assert_says_what_predict_says(find_snippets(f'open_model("{name}")'), name)


class Session:
    """A replacement of onnxruntime in PyTorch, because writing a graph takes half a minute."""

    def __init__(self, _: str):
        self.ensemble = load_ensemble(Path("data/models"))

    def get_modelmeta(self) -> SimpleNamespace:
        return SimpleNamespace(custom_metadata_map=describe(self.ensemble))

    def get_inputs(self) -> list[SimpleNamespace]:
        sizes_px = self.ensemble.stored_sizes_px
        return [SimpleNamespace(name=f"images_{each}", shape=["batch", each, each, 3]) for each in sizes_px]

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = {int(name.removeprefix("images_")): each for name, each in inputs.items()}
        return [self.ensemble.predict_proba(images, torch.device("cpu"))]


@pytest.mark.parametrize("runtime", ["stand-in", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_a_vote_in_onnxruntime_says_what_predict_says(folder, monkeypatch, runtime):
    save_models(Path("data/models"), "logarithmic_pool", VOTES["logarithmic_pool"], GREY_BITS)
    if runtime == "stand-in":
        monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    else:
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
        write_onnx(Path("vote.onnx"), load_ensemble(Path("data/models")))
    assert_says_what_predict_says(find_snippets("vote.onnx"), None)
