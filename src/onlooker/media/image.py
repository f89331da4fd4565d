"""Reads one picture from whatever the user has: `load_image` for people, `open_image` for processors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media.array import array_to_rgb, is_tensor, sixteen_to_eight_bits, tensor_to_numpy
from onlooker.media.decode import check_size, decode_image, upright
from onlooker.media.source import find_source

MAX_MEGAPIXELS = 89.0  # where Pillow begins to warn of decompression bombs
MAX_SIDE_RATIO = 200.0  # a model's square view of anything narrower shows nothing
MAX_IMAGE_BYTES = 2**28


def load_image(
    source: Any,
    *,
    max_megapixels: float | None = MAX_MEGAPIXELS,
    max_side_ratio: float | None = MAX_SIDE_RATIO,
    timeout: float = 30.0,
) -> np.ndarray:
    """Read a picture as it is meant to be seen.

    It is turned as its EXIF orientation says, alpha is put on white, 16-bit data is scaled to 8 bits, one channel is
    repeated to three, and of an animation the first frame is taken.

    Args:
        source: path, http(s) URL, data: URL, bytes, binary file object, Pillow image, array or torch tensor (for the
            layouts and types of arrays see `array_to_rgb`).
        max_megapixels: larger pictures are refused before they are decoded; None for no limit.
        max_side_ratio: the longer side may be this many times the shorter one; None for no limit.
        timeout: seconds to wait for a server.

    Returns:
        uint8 [h, w, 3] RGB, writable.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: it cannot be read as a picture (the message says why), or it is over a limit.
        TypeError: `source` is of none of these kinds.
    """
    limits = {"max_megapixels": max_megapixels, "max_side_ratio": max_side_ratio}
    if is_tensor(source):
        source = tensor_to_numpy(source)
    if isinstance(source, np.ndarray):
        picture = array_to_rgb(source)
        check_size((picture.shape[1], picture.shape[0]), "array", **limits)
        return picture
    if isinstance(source, Image.Image):
        check_size(source.size, "Pillow image", **limits)
        image, name = upright(source, "Pillow image"), "Pillow image"
    else:
        found = find_source(source, max_bytes=MAX_IMAGE_BYTES, timeout=timeout)
        image, name = decode_image(found, **limits), found.name
    return image_to_rgb(image, name)


def image_to_rgb(image: Image.Image, name: str) -> np.ndarray:
    """A decoded Pillow image of any mode as uint8 [h, w, 3], alpha put on white.

    Raises:
        MediaError: its values are in no known range.
    """
    return np.array(_on_white(_eight_bits(image, name)))


def open_image(
    source: Any,
    *,
    max_megapixels: float | None = MAX_MEGAPIXELS,
    max_side_ratio: float | None = MAX_SIDE_RATIO,
    timeout: float = 30.0,
) -> Image.Image:
    """Read a picture as the published image processors do: EXIF-rotated, then RGB with alpha dropped.

    Arguments and errors are those of `load_image`, for paths, URLs, bytes and file objects. A Pillow image comes back
    as it is. The colours under transparent pixels become visible: checkpoints were trained that way.
    """
    if isinstance(source, Image.Image):
        return source
    found = find_source(source, max_bytes=MAX_IMAGE_BYTES, timeout=timeout)
    image = decode_image(found, max_megapixels=max_megapixels, max_side_ratio=max_side_ratio)
    image = _eight_bits(image, found.name)
    image.info.pop("transparency", None)  # Pillow would warn that it is about to be dropped
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit gray, which `convert` would clip to white, and 32-bit values where their range is plain."""
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    values = np.asarray(image)
    if image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535:
        values = values.astype(np.uint16)
    if values.dtype.kind == "u":
        return Image.fromarray(sixteen_to_eight_bits(values))
    try:
        return Image.fromarray(array_to_rgb(values))
    except MediaError as error:
        raise MediaError(f"{name}: {error}") from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
