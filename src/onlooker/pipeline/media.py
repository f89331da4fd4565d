"""What the user gave becomes a picture or the frames of a clip; which of the two it is, its content says."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media import Frames, VideoLimits, load_image, probe_video
from onlooker.media.animation import looks_like_image
from onlooker.media.decode import identify
from onlooker.media.image import MAX_MEGAPIXELS
from onlooker.media.scene import Score
from onlooker.media.source import Source, find_source
from onlooker.pipeline.times import parse_seconds

IMAGE, VIDEO = "image", "video"

#: uint8 [h, w, 3], or the frames of a clip
Medium = np.ndarray | Frames


@dataclass(frozen=True)
class ClipOptions:
    """Which frames of a clip are looked at; None takes what the family was trained with.

    Attributes:
        start, end: seconds, or times such as "0:10".
        limits: of clips, and of pictures, which may have 89 megapixels where these allow fewer.
        score: with sampling="query" (which it implies), list of pictures -> how well each fits; see `Onlooker.scorer`.
    """

    num_frames: int | None = None
    sampling: str | None = None
    start: float | str | None = None
    end: float | str | None = None
    limits: VideoLimits | None = None
    score: Score | None = None

    def arguments(self, trained_frames: int, trained_sampling: str) -> dict[str, Any]:
        """As arguments of `load_video`."""
        return {
            "num_frames": self.num_frames or trained_frames,
            "sampling": self.sampling or (trained_sampling if self.score is None else "query"),
            "start": parse_seconds(self.start),
            "end": parse_seconds(self.end),
            "limits": self.limits,
            "score": self.score,
        }

    @property
    def are_given(self) -> bool:
        return any(value is not None for value in vars(self).values())

    def picture(self, source: Any) -> np.ndarray:
        """Read a picture within the limits."""
        if self.limits is None:
            return load_image(source)
        most = self.limits.max_megapixels
        return load_image(
            source,
            max_megapixels=None if most is None else max(most, MAX_MEGAPIXELS),
            max_side_ratio=self.limits.max_side_ratio,
        )


def kind_of(medium: Medium) -> str:
    return VIDEO if isinstance(medium, Frames) else IMAGE


def open_medium(
    source: Any,
    load_clip: Callable[[Any], Frames] | None,
    family: str,
    options: ClipOptions | None = None,
    found: Source | None = None,
) -> Medium:
    """Read a picture or a clip.

    Args:
        source: path, URL, bytes or file object of either; Pillow image or array [h, w, 3] of a picture; array
            [F, h, w, 3], list of pictures, folder of image files or `Frames` of a clip.
        load_clip: takes the frames out of what is a clip; None for families that take pictures only, for which a GIF
            is its first frame.
        family: what messages call the family.
        options: for the limits of pictures; those of clips are `load_clip`'s.
        found: what `find_file` gave for the source.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: it cannot be read (the message says why), or it is a clip and the family takes pictures.
        TypeError: `source` is of none of these kinds.
    """
    options = options or ClipOptions()
    if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3:
        return source  # also when it is one or three high, where the axis of the channels would be a guess
    if isinstance(source, (Frames, list, tuple)) or getattr(source, "ndim", 0) > 3:
        return source if isinstance(source, Frames) and load_clip else _clip(source, load_clip, family)
    if isinstance(source, Image.Image) or hasattr(source, "ndim"):
        return options.picture(source)
    if isinstance(source, (str, os.PathLike)) and load_clip and os.path.isdir(source):
        return load_clip(source)
    return _open_file(source, found or _find(source, options), load_clip, family, options)


def find_file(source: Any, options: ClipOptions) -> Source | None:
    """Where the bytes of a medium are, fetched where they have to be; None for what is no file, or a folder of them.

    Raises:
        FileNotFoundError, MediaError: as `open_medium`.
    """
    if isinstance(source, (str, os.PathLike)):
        return None if os.path.isdir(source) else _find(source, options)
    is_file = isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read")
    return _find(source, options) if is_file else None


def is_picture(source: Any, options: ClipOptions) -> bool:
    """Whether this is a still picture: by its kind, or by its content; formats without a signature are not known.

    Raises:
        FileNotFoundError, MediaError: as `open_medium`.
    """
    if isinstance(source, Image.Image) or hasattr(source, "ndim"):
        return isinstance(source, Image.Image) or source.ndim < 4
    found = find_file(source, options)
    if found is None:
        return False
    with found.open() as file:
        head = file.read(16)
    return looks_like_image(head) and not _moves(found, head)


def fetched(source: Any, options: ClipOptions) -> Any:
    """The source, or its bytes under its name where they come from elsewhere, so that they may be read twice.

    Raises:
        FileNotFoundError, MediaError: as `open_medium`.
    """
    found = find_file(source, options)
    return source if found is None or found.path is not None else _Named(found)


def _find(source: Any, options: ClipOptions) -> Source:
    most = (options.limits or VideoLimits()).max_bytes
    return find_source(source, max_bytes=2**62 if most is None else most)


def _open_file(
    source: Any, found: Source, load_clip: Callable[[Any], Frames] | None, family: str, options: ClipOptions
) -> Medium:
    with found.open() as file:
        head = file.read(16)
    again: Any = source if found.path is not None else _Named(found)
    is_picture = looks_like_image(head)
    if load_clip is None:
        try:
            return options.picture(again)
        except MediaError:
            if not is_picture and _is_clip(again):
                _clip(found.name, None, family)
            raise
    if is_picture:
        return load_clip(again) if _moves(found, head) else options.picture(again)
    try:
        return load_clip(again)
    except MediaError:
        try:
            return options.picture(again)  # of the formats that have no signature to be known by
        except MediaError:
            pass
        raise


class _Named(io.BytesIO):
    """Bytes that were fetched once, under the name that messages are to call them."""

    def __init__(self, found: Source) -> None:
        super().__init__(found.data or b"")
        self.name = found.name

    def read(self, size: int | None = -1) -> bytes:
        """From the start on: it is read once as a picture and once as a clip."""
        self.seek(0)
        return super().read(size)


def _clip(source: Any, load_clip: Callable[[Any], Frames] | None, family: str) -> Frames:
    if load_clip is not None:
        return load_clip(source)
    name = source if isinstance(source, str) else "this"
    raise MediaError(
        f"{name} is a video, and {family} takes images: give it one frame of onlooker.load_video, or load a checkpoint "
        f"that takes videos, such as LanguageBind/Video-LLaVA-7B-hf"
    )


def _is_clip(source: Any) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe_video(source)
    except (MediaError, ValueError):
        return False
    return True


def _moves(found: Source, head: bytes) -> bool:
    """Whether an image file holds several frames; the other formats have pages or previews at most."""
    if not (head.startswith((b"GIF8", b"\x89PNG", b"RIFF")) or head[4:11] == b"ftypavi"):
        return False
    with found.open() as file:
        try:
            return getattr(identify(file, found.name), "n_frames", 1) > 1
        except MediaError:
            return False  # reading it as a picture says what is wrong
