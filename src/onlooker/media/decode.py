"""Decodes the first picture of an image file with Pillow, upright, within limits."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from onlooker.errors import MediaError
from onlooker.media.source import Source

# Raster formats only. Left out on purpose: EPS (runs Ghostscript), WMF, and plugins that hand the file to other tools.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIF", "BMP", "DIB", "TIFF", "MPO", "JPEG2000"),
    *("ICO", "PPM", "TGA", "PCX", "PSD", "SGI", "QOI", "DDS"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What Pillow's decoders raise on damaged data (found by cutting and flipping real files, see the tests).
DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError),
    *(ArithmeticError, struct.error, zlib.error),
)
_pillow_limit_lock = threading.Lock()


def decode_image(source: Source, *, max_megapixels: float | None, max_side_ratio: float | None) -> Image.Image:
    """Decode the first frame of an image file, EXIF-rotated, in the mode in which it is stored.

    Raises:
        MediaError: not an image, damaged, cut short, or over a limit.
    """
    with source.open() as file:
        image = identify(file, source.name)
        check_size(image.size, source.name, max_megapixels=max_megapixels, max_side_ratio=max_side_ratio)
        return upright(image, source.name, in_place=True)


def upright(image: Image.Image, name: str, *, in_place: bool = False) -> Image.Image:
    """Load a Pillow image and turn it as its EXIF orientation says; a copy, unless `in_place` (large photos cost time).

    Raises:
        MediaError: its file turns out to be damaged or cut short.
    """
    try:
        image.load()
    except DAMAGE as error:
        raise _damaged(name, error) from error
    except Image.DecompressionBombError as error:  # an icon may hold a picture larger than it declares
        raise MediaError(f"{name}: {error}") from error
    try:
        if not in_place:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
    except DAMAGE:  # broken EXIF does not make the pixels unreadable: no orientation is known then
        pass
    return image


def check_size(size: tuple[int, int], name: str, *, max_megapixels: float | None, max_side_ratio: float | None) -> None:
    """Refuse pictures that are too large to decode or too narrow to show to a model.

    Raises:
        MediaError: a limit is exceeded, or a side is 0.
    """
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(f"{name}: a picture of {width}x{height} pixels is empty")
    if max_megapixels is not None and width * height > max_megapixels * 1e6:
        raise MediaError(
            f"{name}: {width * height / 1e6:.4g} megapixels is over the limit of {max_megapixels:g} "
            f"({width}x{height}); shrink it, or raise max_megapixels"
        )
    if max_side_ratio is not None and max(size) > max_side_ratio * min(size):
        raise MediaError(
            f"{name}: {width}x{height} is {max(size) / min(size):.4g}:1, over the limit of {max_side_ratio:g}:1; "
            "crop it into pieces, or raise max_side_ratio"
        )


def identify(file: BinaryIO, name: str, formats: tuple[str, ...] = _FORMATS) -> Image.Image:
    """Open a file as an image of one of `formats`, without decoding it or holding it against limits.

    Raises:
        MediaError: it is not one, or its header is damaged.
    """
    _open_for_heic(file, name)
    if not Image.OPEN or "AVIF" not in Image.OPEN:
        Image.init()  # formats that this Pillow was built without are not asked for
    known = [name for name in formats if name in Image.OPEN]
    try:
        with _without_pillow_limit():
            return Image.open(file, formats=known)
    except UnidentifiedImageError as error:
        raise MediaError(
            f"cannot identify image file {name}: damaged, or not an image (frames of a video come from load_video)"
        ) from error
    except DAMAGE as error:
        raise _damaged(name, error) from error


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Pillow's own limit warns at 89 and raises at 179 megapixels; ours is an argument, and is checked right after."""
    with _pillow_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _open_for_heic(file: BinaryIO, name: str) -> None:
    head = file.read(12)
    file.seek(0)
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIC_BRANDS:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise MediaError(f"{name} is HEIC: install pillow-heif (pip install pillow-heif)") from error
    pillow_heif.register_heif_opener()


def _damaged(name: str, error: Exception) -> MediaError:
    text = str(error) or type(error).__name__
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return MediaError(f"{name}: image is cut short")
    return MediaError(f"{name}: image is damaged ({text})")
