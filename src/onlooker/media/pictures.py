"""Clips that are lists already: folders of image files, arrays, tensors, and lists of pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onlooker.errors import MediaError
from onlooker.media.array import array_to_rgb, is_tensor, tensor_to_numpy
from onlooker.media.clip import Clip
from onlooker.media.image import load_image
from onlooker.media.limits import VideoLimits
from onlooker.media.source import shorten

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".ppm", ".jp2"}


class Pictures(Clip):
    """Frames that are had one by one, by number.

    Args:
        load: number -> uint8 [h, w, 3].
        fps: frames per second; None where nothing tells, and then the clip has no times.
    """

    codec = "pictures"

    def __init__(
        self, name: str, count: int, load: Callable[[int], np.ndarray], limits: VideoLimits, fps: float | None
    ) -> None:
        if not count:
            raise MediaError(f"{name} holds no frames")
        self.name, self.count, self.limits, self._load = name, count, limits, load
        self.notes: list[str] = []
        self.fps = fps
        self.times = np.arange(count) / fps if fps else None
        self.duration = count / fps if fps else None
        self.keys = np.arange(count)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in indices:
            picture = self._load(number)
            self.check_picture(picture.shape[1], picture.shape[0])
            yield number, picture


def folder_clip(folder: Path, limits: VideoLimits, fps: float | None) -> Pictures:
    """The image files of a folder in the order of their names, numbers by value (frame_9 before frame_10).

    Raises:
        MediaError: there are none.
    """
    name = shorten(str(folder))
    files = [file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")]
    files.sort(key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)])
    if not files:
        raise MediaError(f"{name} is a directory without image files; give a video file, or a folder of frames")
    return Pictures(name, len(files), lambda number: load_image(files[number]), limits, fps)


def array_clip(array: np.ndarray, limits: VideoLimits, fps: float | None) -> Pictures:
    """[F, h, w, C] or [F, C, h, w] with 1, 3 or 4 channels, or one picture [h, w, C] / [C, h, w] / [h, w].

    Types and ranges are those of `array_to_rgb`; whether floats run to 1 or to 255 is decided once for the clip.

    Raises:
        MediaError: another shape or type, or values out of range.
    """
    if array.ndim in (2, 3):
        array = array[None]
    if array.ndim != 4:
        raise MediaError(
            f"an array of shape {array.shape} is not a clip; give [frames, h, w, channels] or [frames, channels, h, w]"
        )
    return list_clip(list(array), limits, fps, name="array")


def list_clip(items: Sequence[Any], limits: VideoLimits, fps: float | None, name: str = "list of frames") -> Pictures:
    """Pillow images, arrays, tensors, or whatever else `load_image` reads, one for each frame.

    Raises:
        MediaError: no frames, or floats that are in no known range.
    """
    frames = [tensor_to_numpy(item) if is_tensor(item) else item for item in items]
    floats = [frame for frame in frames if isinstance(frame, np.ndarray) and frame.dtype.kind == "f" and frame.size]
    # A dark frame of a 0..255 clip may stay below 1: it must not be taken for fractions of white.
    runs_to_255 = any(frame.max() > 1 for frame in floats)

    def load(number: int) -> np.ndarray:
        frame = frames[number]
        if not isinstance(frame, np.ndarray):
            return load_image(frame)
        if runs_to_255 and frame.dtype.kind == "f" and frame.size and frame.min() >= 0 and frame.max() <= 1:
            frame = np.rint(frame).astype(np.uint8)
        return array_to_rgb(frame)

    return Pictures(name, len(frames), load, limits, fps)
