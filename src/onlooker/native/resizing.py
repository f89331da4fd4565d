"""Calls the compiled work on 8-bit pictures; says when it cannot, and torch and numpy do the same then.

Set ONLOOKER_NATIVE=0 to keep everything in torch.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

from onlooker.native.build import load

MODES = ("bilinear", "bicubic")


class _Part(ctypes.Structure):
    _fields_ = (("size", ctypes.c_int64), ("first", ctypes.c_int64), ("stop", ctypes.c_int64))


class _Picture(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("stride", ctypes.c_int64),
    )


@cache
def _library() -> Any:
    """The compiled functions, or None. The first call compiles."""
    library = load("resize")
    if library is None or not library.onlooker_can_resize():
        return None
    library.onlooker_look_up.restype = None
    return library


def can_resize() -> bool:
    """Whether there is a compiled resize here. The first call compiles."""
    return _library() is not None


def resize(picture: np.ndarray, height: int, width: int, mode: str, rows: slice, columns: slice) -> np.ndarray | None:
    """Resize to `height` x `width` with antialias, and give the rows and columns asked for.

    Args:
        picture: uint8 [h, w, C] with 1 to 4 channels, of any strides.
        mode: "bilinear" or "bicubic".
        rows, columns: of the resized picture; with a start and a stop, not empty.

    Returns:
        uint8 [rows, columns, C], the bytes of torch; None where there is nothing compiled, no picture, or no memory.
    """
    library = _library()
    if library is None or not picture.size:
        return None
    picture, described = _described(picture)
    result = np.empty((rows.stop - rows.start, columns.stop - columns.start, picture.shape[2]), dtype=np.uint8)
    done = library.onlooker_resize(
        ctypes.byref(described),
        ctypes.byref(_Part(height, rows.start, rows.stop)),
        ctypes.byref(_Part(width, columns.start, columns.stop)),
        MODES.index(mode),
        ctypes.c_void_p(result.ctypes.data),
    )
    return result if done else None


def look_up(picture: np.ndarray, table: np.ndarray, out: np.ndarray) -> bool:
    """Write table[c, picture[y, x, c]] to out[c, y, x], if that is compiled here.

    Args:
        picture: uint8 [h, w, C], of any strides.
        table: float32 [C, 256], contiguous.
        out: float32 [C, h, w], contiguous.
    """
    library = _library()
    if library is None:
        return False
    picture, described = _described(picture)
    library.onlooker_look_up(
        ctypes.byref(described), ctypes.c_void_p(table.ctypes.data), ctypes.c_void_p(out.ctypes.data)
    )
    return True


def _described(picture: np.ndarray) -> tuple[np.ndarray, _Picture]:
    """Where the bytes are, and the array that holds them: copied when pixels are not side by side."""
    channels = picture.shape[2]
    if picture.strides[1:] != (channels, 1) or picture.strides[0] < picture.shape[1] * channels:
        picture = np.ascontiguousarray(picture)
    return picture, _Picture(picture.ctypes.data, *picture.shape, picture.strides[0])
