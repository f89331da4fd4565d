"""Finds out what kind of clip a source is, by its content, and opens it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onlooker.media.animation import Animation, looks_like_image
from onlooker.media.array import is_tensor, tensor_to_numpy
from onlooker.media.clip import Clip
from onlooker.media.frames import Frames
from onlooker.media.limits import VideoLimits
from onlooker.media.pictures import array_clip, folder_clip, list_clip
from onlooker.media.source import find_source
from onlooker.media.videofile import VideoFile

_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Opening:
    """How to open a source: the arguments of `load_video` that are not about choosing frames."""

    limits: VideoLimits | None = None
    stream: int = 0
    square_pixels: bool = True
    threads: int = 0
    source_fps: float | None = None
    timeout: float = 30.0


def open_clip(source: Any, how: Opening) -> Clip:
    """Open anything that holds frames; the caller closes it (or uses `with`).

    Errors are those of `load_video`.
    """
    limits, source_fps = how.limits or VideoLimits(), how.source_fps
    if source_fps is not None and not source_fps > 0:
        raise ValueError(f"source_fps {source_fps!r} is not above 0")
    if isinstance(source, Frames):
        return array_clip(source.pixels, limits, source_fps)
    if is_tensor(source):
        source = tensor_to_numpy(source)
    if isinstance(source, np.ndarray):
        return array_clip(source, limits, source_fps)
    if isinstance(source, Image.Image):
        return list_clip([source], limits, source_fps, name="Pillow image")
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes, bytearray, memoryview)):
        return list_clip(source, limits, source_fps)
    if isinstance(source, (str, os.PathLike)) and _is_folder(source):
        return folder_clip(Path(os.fsdecode(source)), limits, source_fps)
    found = find_source(source, max_bytes=limits.max_bytes or _NO_LIMIT, timeout=how.timeout)
    with found.open() as file:
        head = file.read(16)
    if looks_like_image(head):
        return Animation(found, limits)
    return VideoFile(found, limits, stream=how.stream, square_pixels=how.square_pixels, threads=how.threads)


def _is_folder(path: str | os.PathLike[str]) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:  # a zero byte inside
        return False
