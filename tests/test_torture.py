"""The torture folder: every kind of good, odd and bad file in one image folder, each with what is to become of it.

A kind is a function that writes one file (or link) at the path it is given, out of a picture of its own. `split` and
`pack` run as users run them, in strict and in skip mode.
"""

import csv
import json
import os
import struct
import subprocess
import sys
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageOps, TiffImagePlugin

from stages.pixels.decoding import decode
from stages.pixels.packed_splits import open_pack, read_classes
from tests.imports import ROOT

STORED = 36


def picture(number: int, size: tuple[int, int] = (72, 56)) -> Image.Image:
    """Return a picture that is like no other number's: large blots of random colours."""
    blots = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


def saved(kind: str, mode: str = "RGB", **options) -> Callable[[Path, Image.Image], None]:
    def write(path: Path, image: Image.Image) -> None:
        image.convert(mode).save(path, kind, **options)

    return write


def cut(kind: str, share: float) -> Callable[[Path, Image.Image], None]:
    def write(path: Path, image: Image.Image) -> None:
        image.save(path, kind)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return write


def holding(content: bytes) -> Callable[[Path, Image.Image], None]:
    return lambda path, _: path.write_bytes(content)


def linked(target: str) -> Callable[[Path, Image.Image], None]:
    return lambda path, _: path.symlink_to(target)


def rotated(orientation: int) -> Callable[[Path, Image.Image], None]:
    def write(path: Path, image: Image.Image) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, "JPEG", exif=exif)

    return write


def frames(kind: str) -> Callable[[Path, Image.Image], None]:
    def write(path: Path, image: Image.Image) -> None:
        image.save(path, kind, save_all=True, append_images=[image.rotate(90), image.rotate(180)])

    return write


def alpha(path: Path, image: Image.Image) -> None:
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path, "PNG")


def palette_with_transparency(path: Path, image: Image.Image) -> None:
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(path, "PNG", transparency=0)


def sixteen_bit_grey(path: Path, image: Image.Image) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def sixteen_bit_colour(path: Path, image: Image.Image) -> None:
    pixels = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(png_of(image.width, image.height, 16, 2, rows))


def wrong_checksum(path: Path, image: Image.Image) -> None:
    image.save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 255
    path.write_bytes(content)


def trailing_bytes(path: Path, image: Image.Image) -> None:
    image.save(path, "JPEG")
    path.write_bytes(path.read_bytes() + b"<html>appended by a web server</html>")


def broken_exif(path: Path, image: Image.Image) -> None:
    image.save(path, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")


def camera_pair(path: Path, image: Image.Image) -> None:
    image.save(path, "MPO", save_all=True, append_images=[image.rotate(180)])


def tiff_compressed(path: Path, image: Image.Image) -> None:
    image.save(path, "TIFF", compression="tiff_lzw")


def tiff_of_floats(path: Path, image: Image.Image) -> None:
    image.convert("F").save(path, "TIFF")


def big_endian_tiff(path: Path, image: Image.Image) -> None:
    with path.open("wb") as file:
        TiffImagePlugin.WRITE_LIBTIFF = False
        image.save(file, "TIFF", big_tiff=False)


def pipe(path: Path, _: Image.Image) -> None:
    os.mkfifo(path)


def like(name: str, change: Callable[[Image.Image], Image.Image] = lambda image: image, **options):
    """Write a copy of another class's picture, changed: a conflict."""

    def write(path: Path, _: Image.Image) -> None:
        with Image.open(path.parent.parent / name) as image:
            change(image.convert("RGB")).save(path, **options)

    return write


BOMB = png_of(30_000, 30_000, 1, 0, b"\0" * 3751 * 30_000)  # 900 million pixels, in 110 KB
LONG = "long name " * 19 + "long"  # 194 characters, and an ending

TAKEN: dict[str, Callable[[Path, Image.Image], object]] = {
    "baseline.jpg": saved("JPEG"),
    "progressive.jpeg": saved("JPEG", progressive=True),
    "cmyk.jpg": saved("JPEG", "CMYK"),
    "grey.jpg": saved("JPEG", "L"),
    **{f"orientation {i}.jpg": rotated(i) for i in range(1, 9)},
    "orientation 77.jpg": rotated(77),
    "broken exif.jpg": broken_exif,
    "trailing bytes.jpg": trailing_bytes,
    "camera pair.jpg": camera_pair,
    "eight bit.png": saved("PNG"),
    "grey.png": saved("PNG", "L"),
    "black and white.png": saved("PNG", "1"),
    "palette.png": saved("PNG", "P"),
    "palette with transparency.png": palette_with_transparency,
    "alpha.png": alpha,
    "grey and alpha.png": saved("PNG", "LA"),
    "sixteen bit grey.png": sixteen_bit_grey,
    "sixteen bit colour.png": sixteen_bit_colour,
    "animated.png": frames("PNG"),
    "lossy.webp": saved("WEBP"),
    "lossless.webp": saved("WEBP", lossless=True),
    "animated.webp": frames("WEBP"),
    "still.gif": saved("GIF"),
    "animated.gif": frames("GIF"),
    "plain.tif": saved("TIFF"),
    "compressed.tiff": tiff_compressed,
    "pages.tiff": frames("TIFF"),
    "cmyk.tiff": saved("TIFF", "CMYK"),
    "big endian.tiff": big_endian_tiff,
    "plain.bmp": saved("BMP"),
    "palette.bmp": saved("BMP", "P"),
    "UPPER.JPG": saved("JPEG"),
    "no ending": saved("PNG"),
    "wrong ending.jpg": saved("PNG"),
    "ending of a text.txt": saved("JPEG"),
    'it\'s "quoted" `and` $HOME.png': saved("PNG"),
    "comma, semicolon; tab.png": saved("PNG"),
    "-rf.png": saved("PNG"),
    "100%20 #1 & more?.png": saved("PNG"),
    "玫瑰 роза 🌹.png": saved("PNG"),
    unicodedata.normalize("NFD", "Rosé") + ".png": saved("PNG"),
    f"{LONG}.png": saved("PNG"),
    " leading and trailing ": saved("PNG"),
    "deep/er/still.png": saved("PNG"),
    "link inside.jpg": linked("baseline.jpg"),
    "one pixel.png": lambda path, _: Image.new("RGB", (1, 1), (9, 99, 199)).save(path),
    "one row.png": lambda path, image: image.resize((500, 1)).save(path),
    "plain white.png": lambda path, _: Image.new("RGB", (30, 30), "white").save(path),
}
REJECTED: dict[str, tuple[str, Callable[[Path, Image.Image], object]]] = {
    "empty.jpg": ("empty", holding(b"")),
    "text.jpg": ("format", holding(b"not an image\n")),
    "error page.jpg": ("format", holding(b"<!DOCTYPE html><title>404</title>")),
    "notes.txt": ("format", holding(b"notes on roses")),
    "document.pdf": ("format", holding(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")),
    "postscript.png": ("format", holding(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")),
    "drawing.svg": ("format", holding(b'<svg xmlns="http://www.w3.org/2000/svg"/>')),
    "photo.heic": ("format", holding(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")),
    "film.mp4": ("format", holding(b"\0\0\0\x18ftypmp42" + bytes(5000))),
    "sound.webp": ("format", holding(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40))),
    "archive.zip": ("format", holding(b"PK\x03\x04" + bytes(60))),
    "zeros.png": ("format", holding(bytes(4096))),
    **{f"cut.{kind.lower()}": ("damaged", cut(kind, 0.5)) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")},
    "only a header.jpg": ("damaged", holding(b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0")),
    "only a signature.png": ("damaged", holding(b"\x89PNG\r\n\x1a\n")),
    "noise after a signature.jpg": ("damaged", holding(b"\xff\xd8\xff" + np.random.default_rng(0).bytes(3000))),
    "wrong checksum.png": ("damaged", wrong_checksum),
    "no pixels.png": ("damaged", holding(png_of(0, 0, 8, 2, b""))),
    "bomb.png": ("size", holding(BOMB)),
    "floats.tiff": ("format", tiff_of_floats),
    "broken link.jpg": ("link", linked("nowhere.jpg")),
    "circle.jpg": ("link", linked("circle.jpg")),
    "link out.jpg": ("link", linked("../../../outside.jpg")),
    "absolute link out.jpg": ("link", linked("/dev/null")),
    "folder link out": ("link", linked("/usr")),
    "folder circle": ("link", linked("..")),
    "pipe.jpg": ("special", pipe),
    "line\nbreak.png": ("name", saved("PNG")),
    "not utf-8 \udcff.png": ("name", saved("PNG")),
    "copy of an iris.png": ("conflict", like("iris/0.png", format="PNG")),
    "iris as jpeg.jpg": ("conflict", like("iris/1.png", format="JPEG", quality=60)),
    "iris mirrored.png": ("conflict", like("iris/2.png", ImageOps.mirror, format="PNG")),
    "iris smaller.webp": ("conflict", like("iris/3.png", lambda i: i.resize((40, 31)), format="WEBP", quality=80)),
}
PASSED_OVER = (
    *("rose/.hidden.jpg", "rose/._resource fork.jpg", ".DS_Store", ".git/objects/00/1.jpg"),
    *("rose/Thumbs.db", "iris/desktop.ini", "__MACOSX/rose/._1.jpg", "rose/@eaDir/1.jpg"),
    *("LICENSE", "at the top.jpg", "other.csv"),
)
N_PLAIN = 12  # of each of the two classes


def escaped(name: str) -> str:
    """Return a path as rejected.csv has it: what cannot be written down is escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\n", "\\n")


def fill(folder: Path, rejected: bool = True) -> None:
    """Make the torture folder: class iris is plain, class rose has one file of each kind, and plain ones."""
    for number in range(2 * N_PLAIN):
        path = folder / "images" / ("iris", "rose")[number % 2] / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    kinds = {**TAKEN, **{name: write for name, (_, write) in REJECTED.items() if rejected}}
    for number, (name, write) in enumerate(kinds.items(), 100):
        path = folder / "images/rose" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, picture(number))
    for name in PASSED_OVER:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(b"left")
    picture(99).save(folder / "outside.jpg")


def run(folder: Path, policy: str, *arguments: str) -> subprocess.CompletedProcess:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"image_size_px": 32, "images_policy": policy, "images_max_pixels": 10**8, "images_copy_bits": 48}
    params["pack"]["stored_size_px"] = STORED
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def split(folder: Path, policy: str) -> subprocess.CompletedProcess:
    arguments = ("stages.split", "images", "data/manifest.csv", "data/rejected.csv", "metrics")
    return run(folder, policy, *arguments)


def rejected(folder: Path) -> dict[str, str]:
    """Return {path: reason} of rejected.csv."""
    with (folder / "data/rejected.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


EXPECTED = {f"rose/{escaped(name)}": reason for name, (reason, _) in REJECTED.items()}
EXPECTED |= {f"iris/{i}.png": "conflict" for i in range(4)}  # nobody can say which of the two labels is right


@pytest.fixture(scope="module")
def strict(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("strict")
    fill(folder)
    return folder, split(folder, "strict")


@pytest.fixture(scope="module")
def skipped(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("skip")
    fill(folder)
    process = split(folder, "skip")
    assert process.returncode == 0, process.stderr
    return folder, process


def test_there_are_many_kinds():
    assert len(TAKEN) + len(REJECTED) + len(PASSED_OVER) >= 90


def test_strict_lists_every_bad_file_on_a_line_of_its_own_and_ends_with_exit_code_2(strict):
    folder, process = strict
    assert process.returncode == 2
    *lines, last = process.stderr.splitlines()
    assert all(line.startswith("error: images/") for line in lines)
    assert len(lines) == len(EXPECTED)
    for path in EXPECTED:
        words = " ".join(f"error: images/{path}: ".split())
        assert sum(line.startswith(words) for line in lines) == 1, path
    n_files = 2 * N_PLAIN + len(TAKEN) + len(REJECTED)
    assert f"{len(EXPECTED)} of {n_files} files cannot be used; mend or remove them, or set images_policy" in last
    assert rejected(folder) == EXPECTED


def test_strict_leaves_no_manifest_and_no_metrics(strict):
    folder, _ = strict
    written = [path.name for path in folder.rglob("*") if path.is_file() and "images" not in path.parts]
    assert sorted(written) == ["outside.jpg", "params.yaml", "rejected.csv"]


def test_skip_takes_every_good_file_and_lists_every_bad_one(skipped):
    folder, process = skipped
    manifest = pd.read_csv(folder / "data/manifest.csv", keep_default_na=False)
    plain = {f"{name}/{i}.png" for name in ("iris", "rose") for i in range(N_PLAIN)} - EXPECTED.keys()
    assert set(manifest["path"]) == plain | {f"rose/{name}" for name in TAKEN}
    assert rejected(folder) == EXPECTED
    assert process.stderr == ""


def test_what_was_left_out_is_counted_in_the_metrics(skipped):
    folder, process = skipped
    facts = json.loads((folder / "metrics/dataset.json").read_text(encoding="utf-8"))
    for reason in {*EXPECTED.values()}:
        assert facts["n_rejected"][reason] == list(EXPECTED.values()).count(reason)
    assert facts["n_rejected"]["total"] == len(EXPECTED)
    assert facts["n_passed_over"]["total"] == len(PASSED_OVER)
    assert facts["n_first_frame_only"] == sum(name.startswith(("animated.", "pages.")) for name in TAKEN) == 4
    assert f"{len(EXPECTED)} files left out" in process.stdout
    assert f"{len(PASSED_OVER)} files passed over" in process.stdout
    assert "4 images have several frames" in process.stdout


def test_pack_packs_what_split_took(skipped):
    folder, _ = skipped
    process = run(folder, "skip", "stages.pack", "data/manifest.csv", "images", "data/packed")
    assert (process.returncode, process.stderr) == (0, "")
    manifest = pd.read_csv(folder / "data/manifest.csv", keep_default_na=False)
    assert read_classes(folder / "data/packed") == ["iris", "rose"]
    sizes = {name: len(open_pack(folder / "data/packed" / name, 2)) for name in ("train", "val", "test")}
    assert sizes == manifest["split"].value_counts().to_dict()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_read_as_viewers_show_it(skipped, orientation):
    folder, _ = skipped
    path = folder / f"images/rose/orientation {orientation}.jpg"
    turned = np.asarray(decode(path.read_bytes()).image).astype(int)
    with Image.open(path) as image:
        stored = np.asarray(image).astype(int)
    by_hand = {  # what the standard says of the stored first row and first column: top left, top right, ...
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }
    assert turned.tolist() == by_hand[orientation].tolist()


def test_odd_files_keep_their_colours(skipped):
    """Hold the mean colour of every kind that is a lossless or nearly lossless copy against its picture."""
    folder, _ = skipped
    faithful = ("jp", "eight bit.png", "sixteen bit colour.png", "lossless.webp", "plain.", "compressed.tiff", "deep")
    checked = 0
    for number, name in enumerate(TAKEN, 100):
        if name.startswith(faithful) and not name.startswith("plain white"):
            decoded = decode((folder / "images/rose" / name).read_bytes()).image
            means = [np.asarray(image, int).mean(axis=(0, 1)) for image in (decoded, picture(number))]
            assert np.abs(means[0] - means[1]).max() < 3
            checked += 1
    assert checked >= 6


def test_a_second_run_gives_the_same_manifest(skipped):
    folder, _ = skipped
    before = {name: (folder / name).read_bytes() for name in ("data/manifest.csv", "data/rejected.csv")}
    assert split(folder, "skip").returncode == 0
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_odd_files_alone_pass_strict(tmp_path):
    fill(tmp_path, rejected=False)
    process = split(tmp_path, "strict")
    assert (process.returncode, process.stderr) == (0, "")
    assert rejected(tmp_path) == {}
    assert len(pd.read_csv(tmp_path / "data/manifest.csv")) == 2 * N_PLAIN + len(TAKEN)


def given(folder: Path, *places: str, numbers: int = 0) -> None:
    for number, place in enumerate(places, numbers):
        path = folder / "images" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)


def test_copies_between_given_splits_are_named_with_both_paths_and_leave_train(tmp_path):
    places = [f"{name}/{label}/{i}.png" for name in ("train", "val", "test") for label in "ab" for i in range(2)]
    given(tmp_path, *places)
    picture(places.index("test/a/0.png")).save(tmp_path / "images/train/a/exact.png")
    ImageOps.mirror(picture(places.index("val/b/1.png"))).save(tmp_path / "images/train/b/mirrored.jpg")
    refused = split(tmp_path, "strict")
    assert refused.returncode == 2
    exact = "images/train/a/exact.png: the same picture in two splits (a copy of test/a/0.png)"
    near = "images/train/b/mirrored.jpg: the same picture in two splits (a near copy of val/b/1.png)"
    assert [line.removeprefix("error: ") for line in refused.stderr.splitlines()[:2]] == [exact, near]
    assert split(tmp_path, "skip").returncode == 0
    manifest = pd.read_csv(tmp_path / "data/manifest.csv")
    assert sorted(manifest["path"]) == sorted(places)
    assert (manifest["split"] == manifest["path"].str.split("/").str[0]).all()
    assert rejected(tmp_path) == {"train/a/exact.png": "leak", "train/b/mirrored.jpg": "leak"}


def test_a_missing_test_split_is_cut_from_train_and_said_so(tmp_path):
    given(tmp_path, *(f"train/{label}/{i}.png" for label in "ab" for i in range(17)))
    given(tmp_path, *(f"valid/{label}/{i}.png" for label in "ab" for i in range(3)), numbers=50)
    process = split(tmp_path, "strict")
    assert process.returncode == 0, process.stderr
    assert "the folder gives train, val alone; cut from its train: 6 test images" in process.stdout
    manifest = pd.read_csv(tmp_path / "data/manifest.csv")
    assert manifest.loc[manifest["path"].str.startswith("valid/"), "split"].eq("val").all()
    of_train = manifest[manifest["path"].str.startswith("train/")]
    # 17 of each class, shared out 0.70 : 0.15 are 14 and 3
    assert of_train.groupby("class")["split"].value_counts().unstack().loc["a"].to_dict() == {"test": 3, "train": 14}


def test_a_table_of_labels_is_followed(tmp_path):
    paths = [f"all/{i}.png" for i in range(12)]
    given(tmp_path, *paths, "all/unlisted.png")
    rows = [f"{path},{'NA' if i % 2 else '7'}" for i, path in enumerate(paths)]
    (tmp_path / "images/labels.csv").write_text("\n".join(["path,label", *rows, "all/gone.png,7"]), encoding="utf-8")
    (tmp_path / "images/classes.txt").write_text("7,Sword lily\nNA,Water lily\n", encoding="utf-8")
    refused = split(tmp_path, "strict")
    assert refused.returncode == 2
    assert "error: images/all/gone.png: labels.csv names it, but it is not there" in refused.stderr
    assert split(tmp_path, "skip").returncode == 0
    manifest = pd.read_csv(tmp_path / "data/manifest.csv", keep_default_na=False)
    assert manifest["class"].tolist() == [
        ("Sword lily", "Water lily")[int(path[4:-4]) % 2] for path in manifest["path"]
    ]
    assert sorted(manifest["path"]) == sorted(paths)


def test_a_class_of_nothing_but_bad_files_is_named_beside_them(tmp_path):
    given(tmp_path, *(f"{label}/{i}.png" for label in "ab" for i in range(4)))
    (tmp_path / "images/c").mkdir()
    for i in range(3):
        (tmp_path / f"images/c/{i}.jpg").write_bytes(b"")
    for policy, n_lines in (("strict", 5), ("skip", 1)):
        process = split(tmp_path, policy)
        assert process.returncode == 2
        assert len(process.stderr.splitlines()) == n_lines
        assert "error: images: class c: no usable image is left" in process.stderr
