"""One image folder with every kind of good, odd and bad file, and the expected result for each."""

import csv
import io
import json
import os
import struct
import unicodedata
import zlib

import pytest
from PIL import Image, ImageOps

from stages.runtime.errors import UserError
from tests.image_folders import picture, read_manifest, run_split, save

N_PLAIN = 6  # for each of the two classes


def saved(kind: str, mode: str = "RGB", **options):
    """Return a function that saves a new picture as bytes of a file."""

    def write(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        if options.get("save_all"):
            options["append_images"] = [image.rotate(90), image.rotate(180)]
        image.convert(mode).save(buffer, kind, **options)
        return buffer.getvalue()

    return write


def cut(kind: str):
    return lambda image: saved(kind)(image)[:-600]


def rotated(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved("JPEG", exif=exif)


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """Return a black and white PNG."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (*chunks, (b"IEND", b""))
    )


TAKEN = {
    "progressive.jpeg": saved("JPEG", progressive=True),
    "cmyk.jpg": saved("JPEG", "CMYK"),
    "orientation 77.jpg": rotated(77),
    "broken exif.jpg": saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
    "trailing bytes.jpg": lambda image: saved("JPEG")(image) + b"<html>appended by a web server</html>",
    "camera pair.jpg": saved("MPO", save_all=True),
    "palette.png": saved("PNG", "P"),
    "sixteen bit grey.png": saved("PNG", "I;16"),
    "animated.gif": saved("GIF", save_all=True),
    "pages.tiff": saved("TIFF", save_all=True),
    "compressed.tiff": saved("TIFF", compression="tiff_lzw"),
    "big.tiff": saved("TIFF", big_tiff=True),
    "UPPER.BMP": saved("BMP"),
    "from the web.avif": saved("AVIF"),
    "without its end.jpg": lambda image: saved("JPEG")(image)[:-2],
    "no ending": saved("PNG"),
    "ending of a text.txt": saved("JPEG"),
    'it\'s "quoted" `and` $HOME, 100%20 #1.png': saved("PNG"),
    "-rf.png": saved("PNG"),
    unicodedata.normalize("NFD", "玫瑰 Rosé 🌹") + ".png": saved("PNG"),
    " leading and trailing ": saved("PNG"),
    "deep/er/still.png": saved("PNG"),
    "grey.pgm": saved("PPM", "L"),
    "traffic sign.ppm": saved("PPM"),
    "one pixel.png": lambda image: saved("PNG")(Image.new("RGB", (1, 1), (9, 99, 199))),
    "iris mirrored.jpg": lambda _: saved("JPEG", quality=60)(ImageOps.mirror(picture(1))),
    "plain white.png": lambda image: saved("PNG")(Image.new("RGB", (30, 30), "white")),
}
REJECTED = {
    "empty.jpg": ("empty", b""),
    "error page.jpg": ("format", b"<!DOCTYPE html><title>404</title>"),
    "notes.txt": ("format", b"notes on roses"),
    "photo.heic": ("format", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    "pointer.jpg": ("format", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    "sound.webp": ("format", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)),
    "floats.tiff": ("format", saved("TIFF", "F")),
    **{f"cut.{kind.lower()}": ("damaged", cut(kind)) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")},
    "only a signature.png": ("damaged", b"\x89PNG\r\n\x1a\n"),
    "no pixels.png": ("damaged", png_of(0, 0, b"")),
    "bomb.png": ("size", png_of(30_000, 30_000, b"\0" * 3751 * 30_000)),  # 900 million pixels, in 110 KB
    "line\nbreak.png": ("name", saved("PNG")),
    "not utf-8 \udcff.png": ("name", saved("PNG")),
    "copy of an iris.png": ("conflict", lambda _: saved("PNG")(picture(0))),
}
PASSED_OVER = ("rose/.hidden.jpg", ".DS_Store", "rose/Thumbs.db", "iris/desktop.ini", "LICENSE", "other.csv")
EXPECTED = {
    f"rose/{name}".replace("\n", "\\n").replace("\udcff", "\\udcff"): reason for name, (reason, _) in REJECTED.items()
} | {"iris/0.png": "conflict"}  # it is unknown which of the two labels is right


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with images/: class iris is plain, class rose has one file of each kind, and plain ones."""
    folder = tmp_path_factory.mktemp("odd")
    save(folder, *(f"images/{name}/{i}.png" for name in ("iris", "rose") for i in range(N_PLAIN)))
    kinds = TAKEN | {name: content for name, (_, content) in REJECTED.items()}
    for number, (name, content) in enumerate(kinds.items(), 100):
        path = folder / "images/rose" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content(picture(number, (96, 80))))
    for name in PASSED_OVER:
        (folder / "images" / name).write_bytes(b"left")
    return folder


def _read_rejected(folder):
    with (folder / "data/rejected.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def test_strict_names_every_bad_file_on_a_line_of_its_own_and_writes_nothing_else(folder):
    with pytest.raises(UserError) as caught:
        run_split(folder)
    *lines, last = caught.value.args
    for path in EXPECTED:
        assert sum(line.startswith(f"images/{path}: ") for line in lines) == 1
    assert len(lines) == len(EXPECTED)
    assert f"{len(EXPECTED)} of {2 * N_PLAIN + len(TAKEN) + len(REJECTED)} files" in last
    assert _read_rejected(folder) == EXPECTED
    assert os.listdir(folder / "data") == ["rejected.csv"]  # noqa: PTH208


def test_skip_takes_every_good_file_and_lists_and_counts_every_bad_one(folder):
    run_split(folder, images_policy="skip")
    plain = {f"{name}/{i}.png" for name in ("iris", "rose") for i in range(N_PLAIN)}
    assert set(read_manifest(folder)["path"]) == plain - EXPECTED.keys() | {f"rose/{name}" for name in TAKEN}
    assert _read_rejected(folder) == EXPECTED
    facts = json.loads((folder / "metrics/dataset.json").read_text(encoding="utf-8"))
    reasons = list(EXPECTED.values())
    assert {reason: n for reason, n in facts["n_rejected"].items() if n} == {
        "total": len(EXPECTED),
        **{reason: reasons.count(reason) for reason in reasons},
    }
    assert facts["n_passed_over"] == {"total": 6, "hidden": 4, "outside a class": 2, "not in labels.csv": 0}
    assert facts["n_first_frame_only"] == 2
