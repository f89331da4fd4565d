"""Single video frames as they are meant to be seen: upright, with square pixels, in the size wanted."""

from __future__ import annotations

import numpy as np
from PIL import Image


def turn(picture: np.ndarray, degrees: int) -> np.ndarray:
    """Rotate counter-clockwise by whole quarter turns, contiguous; other angles are left alone."""
    return np.ascontiguousarray(np.rot90(picture, degrees // 90)) if degrees % 90 == 0 and degrees % 360 else picture


def stretch(picture: np.ndarray, aspect: float) -> np.ndarray:
    """Make pixels of width:height `aspect` square by enlarging the side that is short of them."""
    return resize(picture, stretched_size(picture.shape[0], picture.shape[1], aspect))


def stretched_size(height: int, width: int, aspect: float) -> tuple[int, int]:
    """(height, width) that `stretch` gives."""
    return (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)


def resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale to (height, width) with Pillow's bicubic filter."""
    if picture.shape[:2] == tuple(size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BICUBIC))
