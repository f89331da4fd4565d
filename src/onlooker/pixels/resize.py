"""Brings one picture to its size: resized on 8-bit data as the published processors do, cropped around its middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from onlooker.native import resizing

PILLOW, TORCH = "pillow", "torch"
# Pillow's numbers of the filters that torch has too, for 8-bit data; the others are Pillow's alone.
_TORCH_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def size_dict(size: Any, name: str = "size", *, is_square: bool = True) -> dict[str, int]:
    """Bring the forms in which files hold a size into one: a dictionary.

    Args:
        is_square: one integer means a square; if not, the shortest edge.

    Raises:
        ValueError: it is no size.
    """
    if isinstance(size, Mapping):
        return {key: value for key, value in size.items() if value is not None}
    if isinstance(size, int) and not isinstance(size, bool):
        return {"height": size, "width": size} if is_square else {"shortest_edge": size}
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


def target_size(size: Any, height: int, width: int) -> tuple[int, int]:
    """What `size` makes of a picture of `height` x `width`: an exact size, or its short side set and its shape kept.

    Raises:
        ValueError: it is neither.
    """
    sizes = size_dict(size, is_square=False)
    if set(sizes) != {"shortest_edge"}:
        return height_and_width(sizes)
    short = sizes["shortest_edge"]
    if int(short) != short or short < 1:
        raise ValueError(f"size has a shortest_edge of {short}; it must be a whole number of pixels above 0")
    long = int(short * max(height, width) / min(height, width))  # cut, not rounded, as published
    return (int(short), long) if height <= width else (long, int(short))


def resize(
    picture: Image.Image | np.ndarray,
    height: int,
    width: int,
    resample: int,
    resize_with: str | None = PILLOW,
    keep: tuple[slice, slice] | None = None,
) -> tuple[np.ndarray, bool]:
    """Resize to exactly `height` x `width`, and keep all of it or some rows and columns.

    Args:
        picture: Pillow image in RGB, or array [h, w, C] with values as `to_eight_bits` takes them.
        resample: Pillow's number of the filter.
        resize_with: "pillow", or "torch": the same filters, many times faster, and at most two levels away.
        keep: the rows and columns that are wanted, with starts and stops; others may not even be computed.

    Returns:
        uint8 [height, width, C] or what is kept of it, and whether its 255 stands for 1.0, because fractions came in.
    """
    fractions = False
    keep = keep or (slice(0, height), slice(0, width))
    if isinstance(picture, np.ndarray):
        picture, fractions = to_eight_bits(picture)
        if picture.shape[2] > 4:
            raise ValueError(f"pictures of {picture.shape[2]} channels cannot be resized; set do_resize=False")
    if resize_with == TORCH and resample in _TORCH_MODES:
        return _resize_as_torch(np.asarray(picture), height, width, _TORCH_MODES[resample], keep), fractions
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else np.ascontiguousarray(picture))
    resized = np.asarray(picture.resize((width, height), resample=Image.Resampling(resample)))
    return (resized[:, :, None] if resized.ndim == 2 else resized)[keep], fractions


def _resize_as_torch(array: np.ndarray, height: int, width: int, mode: str, keep: tuple[slice, slice]) -> np.ndarray:
    if mode in resizing.MODES:
        kept = resizing.resize(array, height, width, mode, *keep)
        if kept is not None:
            return kept

    import torch
    from torch.nn.functional import interpolate

    if not array.flags.writeable or min(array.strides) < 0:  # torch warns of the one and refuses the other
        array = array.copy()
    # its fast way wants the channels of a pixel side by side
    frame = torch.from_numpy(array).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)  # [1, C, h, w]
    smooth: dict[str, Any] = {} if mode == "nearest" else {"antialias": True, "align_corners": False}
    return interpolate(frame, size=(height, width), mode=mode, **smooth)[0].permute(1, 2, 0).numpy()[keep]


def middle(height: int, width: int, crop_height: int, crop_width: int) -> tuple[slice, slice]:
    """Rows and columns of a picture of `height` x `width` that `center_crop` takes; all where it is smaller."""
    return _overlap(height, crop_height, False)[0], _overlap(width, crop_width, False)[0]


def center_crop(picture: np.ndarray, height: int, width: int, *, is_rest_first: bool = True) -> np.ndarray:
    """Cut `height` x `width` out of the middle; where the picture is smaller, zeros are put around it.

    Args:
        picture: [h, w, C].
        is_rest_first: an odd row or column of zeros goes to the top and left; if not, to the bottom and right.
    """
    crop = np.zeros((height, width, picture.shape[2]), dtype=picture.dtype)
    (from_y, to_y), (from_x, to_x) = (
        _overlap(have, want, is_rest_first) for have, want in zip(picture.shape[:2], (height, width))
    )
    inner = picture[from_y, from_x]
    if inner.shape == crop.shape:
        return inner
    crop[to_y, to_x] = inner
    return crop


def _overlap(have: int, want: int, is_rest_first: bool) -> tuple[slice, slice]:
    """Along one axis: what is taken of the picture, and where in the crop it goes."""
    if have >= want:
        start = (have - want) // 2
        return slice(start, start + want), slice(0, want)
    start = (want - have + is_rest_first) // 2
    return slice(0, have), slice(start, start + have)


def check_range(array: np.ndarray) -> None:
    """Hold an array that will be rescaled, but not resized, against the levels of a picture.

    Raises:
        ValueError: values outside 0..255.
    """
    if array.dtype != np.uint8 and not (array.min() >= 0 and array.max() <= 255):  # so that nan fails too
        raise ValueError(
            f"pixel values run from {array.min()} to {array.max()}; rescaling needs 0..255 (or set do_rescale=False)"
        )


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
