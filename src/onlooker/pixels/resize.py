"""Resizes one picture with Pillow on 8-bit data, as the published processors do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image


def size_dict(size: Any, name: str = "size") -> dict[str, int]:
    """Bring the forms in which files hold a size into one: a dictionary; an integer means a square.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(size, Mapping):
        return {key: value for key, value in size.items() if value is not None}
    if isinstance(size, int) and not isinstance(size, bool):
        return {"height": size, "width": size}
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    raise ValueError(f"{name} is {size!r}; give {{'height': h, 'width': w}}, (h, w), or one integer for a square")


def height_and_width(size: Any, name: str = "size") -> tuple[int, int]:
    """An exact size as (height, width).

    Raises:
        ValueError: keys other than height and width, or not whole and positive.
    """
    sizes = size_dict(size, name)
    if set(sizes) != {"height", "width"}:
        raise ValueError(f"{name} must have the keys height and width, not {sorted(sizes)}")
    height, width = sizes["height"], sizes["width"]
    if int(height) != height or int(width) != width or height < 1 or width < 1:
        raise ValueError(f"{name} must be whole numbers of pixels above 0, not {height} x {width}")
    return int(height), int(width)


def resize(picture: Image.Image | np.ndarray, height: int, width: int, resample: int) -> tuple[np.ndarray, bool]:
    """Resize to exactly `height` x `width`.

    Args:
        picture: Pillow image in RGB, or array [h, w, C] with values as `to_eight_bits` takes them.
        resample: Pillow's number of the filter.

    Returns:
        uint8 [height, width, C], and whether its 255 stands for 1.0, because fractions came in.
    """
    fractions = False
    if isinstance(picture, np.ndarray):
        picture, fractions = to_eight_bits(picture)
        if picture.shape[2] > 4:
            raise ValueError(f"pictures of {picture.shape[2]} channels cannot be resized; set do_resize=False")
        picture = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else np.ascontiguousarray(picture))
    resized = np.asarray(picture.resize((width, height), resample=Image.Resampling(resample)))
    return (resized[:, :, None] if resized.ndim == 2 else resized), fractions


def to_eight_bits(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """An array as uint8, cut and not rounded, which is what published checkpoints saw.

    Returns:
        The array, and whether it held fractions of 1 instead of 0..255.

    Raises:
        ValueError: neither whole numbers in 0..255 nor fractions in 0..1.
    """
    if array.dtype == np.uint8:
        return array, False
    low, high = array.min(), array.max()
    whole = array.dtype.kind != "f" or bool(np.allclose(array, np.trunc(array)))
    if low >= 0 and high <= 255 and whole:
        return array.astype(np.uint8), False
    if low >= 0 and high <= 1:
        return (array.astype(np.float64) * 255).astype(np.float32).astype(np.uint8), True
    raise ValueError(
        f"pixel values run from {low} to {high}{'' if whole else ', with fractions'}; resizing needs whole numbers "
        "of 0..255 or fractions of 0..1 (round first, or set do_resize=False)"
    )
