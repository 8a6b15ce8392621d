"""What there is to know of an image file before it is decoded: what it is if it is none, and what matters in it."""

import io
import re
import warnings
import zlib

from PIL import TiffImagePlugin

OTHER_FORMATS = {  # by how their files begin
    rb".{4}ftyp(?!.{0,40}avi[fs])(hei|hev|mif1|msf1)": "it is HEIC, as phones save it; convert it to JPEG or PNG",
    rb"version https://git-lfs\.github\.com/": "it is a pointer of Git LFS, not the picture; run `git lfs pull`",
    rb"([^\0]*\n)?outs:\n- ": "it is a pointer of DVC, not the picture; run `dvc pull`",
}
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
MAX_PROFILE = 2**24  # bytes of an ICC profile; those of printers have a few million
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # beside those without which there is no picture


def name_other_format(start: bytes) -> str | None:
    """Say what a file is that is no image, and what to do; None of an unknown one.

    Args:
        start: its first bytes.
    """
    return next((text for begin, text in OTHER_FORMATS.items() if re.match(begin, start, re.DOTALL)), None)


def strip_png(content: bytes) -> bytes:
    """Leave out the chunks of a PNG that do not matter to its picture: Pillow refuses it for a long or damaged text."""
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
    """Tell whether there is a profile in a chunk iCCP: a name, a zero, the method, and what zlib has packed."""
    try:
        unpacked = zlib.decompressobj().decompress(chunk[8:].partition(b"\0")[2][1:], MAX_PROFILE)
    except zlib.error:
        return False
    return 0 < len(unpacked) < MAX_PROFILE


def describe_tiff(content: bytes) -> str | None:
    """Return which pixels a TIFF has that Pillow cannot read; None of what is no TIFF, or a damaged one."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2] == 43 else 8])
        file = io.BytesIO(content)
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags
            directory.load(file)
        bits = directory[TiffImagePlugin.BITSPERSAMPLE]
        return f"a TIFF whose pixels are of {directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)} x {max(bits)} bits"
    except Exception:  # as of damaged bytes
        return None
