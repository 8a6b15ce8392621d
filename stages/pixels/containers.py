"""Inspect image files before decoding: name other formats, and remove parts that do not affect the picture."""

import io
import re
import warnings
import zlib

from PIL import TiffImagePlugin

OTHER_FORMATS = {  # by the first bytes
    rb".{4}ftyp(?!.{0,40}avi[fs])(hei|hev|mif1|msf1)": "a HEIC picture, as phones save them; convert it to JPEG or PNG",
    rb"version https://git-lfs\.github\.com/": "a Git LFS pointer instead of the picture; run `git lfs pull`",
    rb"/annex/objects/": "a git-annex pointer instead of the picture; run `git annex get`",
    rb"([^\0]*\n)?outs:\r?\n- ": "a DVC pointer instead of the picture; run `dvc pull`",
    rb"\s*<(?i:!DOCTYPE html|html)": "a web page, perhaps of a server's error; download the picture again",
    rb"\xff\n|.{4}(JXL|jP ) \r\n": "a JPEG XL or JPEG 2000 picture; convert it to JPEG or PNG",
}
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
MAX_PROFILE = 2**24  # bytes of an ICC profile; profiles of printers have a few million
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # kept besides the required chunks


def name_other_format(start: bytes) -> str | None:
    """Return what a file is that is not an image, and what to do; None if unknown.

    Args:
        start: first bytes of the file.
    """
    return next((text for begin, text in OTHER_FORMATS.items() if re.match(begin, start, re.DOTALL)), None)


def strip_png(content: bytes) -> bytes:
    """Remove the chunks of a PNG that do not affect its picture: Pillow refuses files with a long or damaged text."""
    if not content.startswith(PNG_START):
        return content
    kept, place = [PNG_START], len(PNG_START)
    while place < len(content):
        length, name = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        chunk = content[place : place + length + 12]  # length, name, content and checksum of the last two
        is_whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if name[:1].isupper() or (name in PNG_CHUNKS and is_whole and (name != b"iCCP" or _can_unpack(chunk))):
            kept.append(chunk)
        place += len(chunk)
    return b"".join(kept)


def _can_unpack(chunk: bytes) -> bool:
    """Return whether an iCCP chunk contains a profile: name, zero, method, and data packed by zlib."""
    try:
        unpacked = zlib.decompressobj().decompress(chunk[8:].partition(b"\0")[2][1:], MAX_PROFILE)
    except zlib.error:
        return False
    return len(unpacked) < MAX_PROFILE


def describe_tiff(content: bytes) -> str | None:
    """Return the kind of pixels of a TIFF that Pillow cannot read; None for other or damaged files."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2] == 43 else 8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd tags
            directory.load(file)
        bits = directory[TiffImagePlugin.BITSPERSAMPLE]
        return f"a TIFF with pixels of {directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)} x {max(bits)} bits"
    except Exception:  # damaged bytes
        return None
