"""The preprocessing of the original Video-LLaVA, which is not that of the published checkpoint in the newer layout.

Without the original's random flip, which also acts at inference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from onlooker.pixels.resize import height_and_width, target_size, to_eight_bits
from onlooker.pixels.settings import Settings
from onlooker.pixels.values import model_values

PADDING = (122, 116, 104)  # around pictures: the mean that the tower was trained with, on the scale of 255


def paper_clip(frame: Image.Image | np.ndarray, settings: Settings) -> np.ndarray:
    """One frame of a clip: short side resized bilinearly without antialias, middle cropped; float32 [C, h, w].

    The original normalises before it resizes. Its filter is linear and its weights add up to 1, so the other order
    gives the same values up to rounding, and touches a thirtieth of the pixels.
    """
    return _values(_as_array(frame), settings, "bilinear")


def paper_picture(picture: Image.Image | np.ndarray, settings: Settings) -> np.ndarray:
    """One picture: padded to a square, resized bicubically without antialias, middle cropped; float32 [C, h, w]."""
    array, fractions = _as_array(picture)
    return _values((_padded(array), fractions), settings, "bicubic")


def _as_array(picture: Image.Image | np.ndarray) -> tuple[np.ndarray, bool]:
    array, fractions = to_eight_bits(np.asarray(picture))
    if array.shape[2] != 3:
        raise ValueError(f"a picture of {array.shape[2]} channels came; the paper's preprocessing wants 3")
    return array, fractions


def _padded(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.empty((side, side, 3), dtype=np.uint8)
    square[:] = PADDING
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _values(given: tuple[np.ndarray, bool], settings: Settings, mode: str) -> np.ndarray:
    picture, fractions = given
    resized: np.ndarray = picture
    if settings.do_resize:
        resized = _resize(picture, target_size(settings.size, *picture.shape[:2]), mode)
    if settings.do_center_crop:
        resized = _crop(resized, *height_and_width(settings.crop_size, "crop_size"))
    return model_values(resized, fractions=fractions, **settings.value_options)


def _resize(picture: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    import torch
    from torch.nn.functional import interpolate

    planes: Any = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))[None]
    return interpolate(planes, size=size, mode=mode, align_corners=False)[0].permute(1, 2, 0).numpy()


def _crop(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle; the original rounds half a pixel to the even side."""
    if picture.shape[0] < height or picture.shape[1] < width:
        raise ValueError(
            f"a crop of {width}x{height} does not fit into {picture.shape[1]}x{picture.shape[0]}; make size as large"
        )
    top, left = round((picture.shape[0] - height) / 2), round((picture.shape[1] - width) / 2)
    return picture[top : top + height, left : left + width]
