"""Flattens whatever the user calls images into a list of single pictures, each with its channels last."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image

from onlooker.media import open_image
from onlooker.media.array import is_tensor, tensor_to_numpy

FIRST, LAST = "channels_first", "channels_last"
_CHANNEL_COUNTS = (1, 3)


def flat_pictures(
    images: Any, *, input_data_format: str | None, do_convert_rgb: bool
) -> tuple[list[Image.Image | np.ndarray], str]:
    """List every picture of `images`, in reading order.

    Args:
        images: one picture or any nesting of lists of: Pillow image, array or torch tensor (3-d, or 4-d for a batch),
            path, URL, bytes, binary file object.
        input_data_format: "channels_first" or "channels_last" of the arrays; None to find it out for each.
        do_convert_rgb: Pillow images become RGB.

    Returns:
        Pillow images in RGB or arrays [h, w, C]; and the format in which the first one came.

    Raises:
        ValueError: no picture at all, something that is none, or an array whose channels cannot be told.
        FileNotFoundError, MediaError: as `open_image`.
    """
    found = [_channels_last(item, input_data_format, do_convert_rgb) for item in _flatten(images)]
    if not found:
        raise ValueError("images is empty; give at least one picture")
    return [picture for picture, _ in found], found[0][1]


def format_name(data_format: Any) -> str | None:
    """Check a channel format; enum members of other libraries pass too.

    Raises:
        ValueError: it is neither "channels_first" nor "channels_last".
    """
    name = getattr(data_format, "value", data_format)
    if name not in (None, FIRST, LAST):
        raise ValueError(f"channel format {name!r} is not known; give {FIRST!r} or {LAST!r}")
    return name


def _flatten(images: Any) -> list[Image.Image | np.ndarray]:
    if isinstance(images, (list, tuple)):
        return [picture for item in images for picture in _flatten(item)]
    if isinstance(images, Image.Image):
        return [images]
    if is_tensor(images):
        images = tensor_to_numpy(images)
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, (str, os.PathLike, bytes, bytearray)) or hasattr(images, "read"):
        return [open_image(images)]
    raise ValueError(
        f"{type(images).__name__} is not a picture; give a Pillow image, a numpy array or torch tensor of 3 or 4 "
        "dimensions, a path, a URL, bytes, or a list of these"
    )


def _channels_last(
    picture: Image.Image | np.ndarray, input_data_format: str | None, do_convert_rgb: bool
) -> tuple[Image.Image | np.ndarray, str]:
    if isinstance(picture, Image.Image):
        if do_convert_rgb and picture.mode != "RGB":
            _warn_of_clipping(picture)
            picture = picture.convert("RGB")
        if picture.mode == "RGB":
            return picture, LAST
        picture, input_data_format = np.array(picture), LAST
    if picture.ndim != 3:
        raise ValueError(
            f"an array of shape {picture.shape} is not a picture; give [h, w, 3] or [3, h, w], or 4 dimensions for "
            "a batch (onlooker.load_image turns gray pictures into RGB)"
        )
    if picture.dtype.kind not in "buif":
        raise ValueError(f"an array of {picture.dtype} is not a picture; give numbers")
    if picture.size == 0:
        raise ValueError(f"an array of shape {picture.shape} holds no pixels")
    data_format = input_data_format or _guess_format(picture)
    return (picture.transpose(1, 2, 0) if data_format == FIRST else picture), data_format


def _guess_format(picture: np.ndarray) -> str:
    if picture.shape[0] in _CHANNEL_COUNTS:
        return FIRST
    if picture.shape[2] in _CHANNEL_COUNTS:
        return LAST
    raise ValueError(
        f"no axis of shape {picture.shape} looks like channels (1 or 3, first or last); "
        f"give input_data_format={FIRST!r} or {LAST!r}"
    )


def _warn_of_clipping(image: Image.Image) -> None:
    if image.mode.startswith("I") or image.mode == "F":
        high = image.getextrema()[1]
        if isinstance(high, (int, float)) and high > 255:
            warnings.warn(
                f"Pillow clips this picture (mode {image.mode}, values up to {high}) to 0-255, so it turns white; "
                "give its path or use onlooker.load_image, which scale it",
                stacklevel=2,
            )
