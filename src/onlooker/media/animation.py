"""GIF, animated WebP, APNG and AVIF as clips, and any single image as a clip of one frame, through Pillow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media.clip import Clip, FramesLost
from onlooker.media.decode import DAMAGE, identify, upright
from onlooker.media.image import image_to_rgb
from onlooker.media.limits import VideoLimits
from onlooker.media.source import Source

# Only formats with a signature that cannot be mistaken: some others (TGA, PCX) would claim raw video.
_FORMATS = ("GIF", "PNG", "WEBP", "AVIF", "JPEG", "MPO", "BMP", "TIFF", "HEIF")
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # several pictures in the others are pages or previews
_UNSAID_SECONDS = 0.1  # what browsers take for a frame whose duration is 0 or missing


def looks_like_image(head: bytes) -> bool:
    """Whether the first bytes of a file (at least 16) are those of an image format that we read."""
    return (
        head.startswith((b"GIF8", b"\x89PNG\r\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"))
    )


class Animation(Clip):
    """The frames of an image file, composed as a browser shows them, alpha on white.

    Raises:
        MediaError: not an image, damaged from its first frame on, or over a limit.
    """

    codec = "image"

    def __init__(self, source: Source, limits: VideoLimits) -> None:
        self.name, self.limits, self._source = source.name, limits, source
        self.notes: list[str] = []
        self._file: BinaryIO = source.open()
        try:
            self._image = identify(self._file, source.name, _FORMATS)
            self.codec = str(self._image.format).lower()
            self.check_picture(*self._image.size)
            self._find_times()
            if self.codec == "gif" and self._is_cut():
                self.notes.append(f"{self.name}: damaged, it has no end mark: it was cut short")
        except BaseException:
            self.close()
            raise
        self.keys = np.arange(self.count)

    def _find_times(self) -> None:
        """Times need a pass over the file: most formats keep a duration with each frame."""
        declared = int(getattr(self._image, "n_frames", 1)) if self._image.format in _MOVING else 1
        limit = self.limits.max_sequential_frames
        if limit is not None and declared > limit:
            raise MediaError(f"{self.name} has over {limit:,} frames; raise max_sequential_frames in limits")
        lengths: list[float] = []
        try:
            for number in range(declared):
                self._image.seek(number)
                if self._image.format in ("WEBP", "AVIF"):
                    self._image.load()  # durations come with the pixels
                lengths.append(float(self._image.info.get("duration") or 0) / 1000 or _UNSAID_SECONDS)
        except DAMAGE as error:
            if not lengths:
                raise MediaError(f"{self.name}: no frame could be decoded ({error})") from error
        self._set_frames(lengths)
        if len(lengths) < declared:
            self.notes.append(f"{self.name}: damaged, {len(lengths)} of {declared} frames decoded")

    def _is_cut(self) -> bool:
        """GIF decoders take a cut file for a complete one with fewer frames; only the last byte tells."""
        with self._source.open() as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 64))
            return not file.read().rstrip(b"\0").endswith(b";")

    def _set_frames(self, lengths: list[float]) -> None:
        self._lengths, self.count = lengths, len(lengths)
        ends = np.cumsum(lengths)
        self.times = np.concatenate([[0.0], ends[:-1]])
        self.duration = float(ends[-1])
        self.fps = self.count / self.duration

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in indices:
            try:
                self._image.seek(number)
                picture = image_to_rgb(upright(self._image, self.name), self.name)
            except (MediaError, *DAMAGE) as error:
                if number == 0:
                    raise MediaError(f"{self.name}: no frame could be decoded ({error})") from error
                self._good = number
                raise FramesLost from error
            self.check_picture(picture.shape[1], picture.shape[0])
            yield number, picture

    def repair(self) -> None:
        declared = self.count
        self._set_frames(self._lengths[: self._good])
        self.keys = np.arange(self.count)
        self.notes.append(f"{self.name}: damaged, {self.count} of {declared} frames decoded")
        self._file.close()
        self._file = self._source.open()  # a decoder that failed once is not to be trusted
        self._image = identify(self._file, self.name, _FORMATS)

    def close(self) -> None:
        image: Image.Image | None = getattr(self, "_image", None)
        if image is not None:
            image.close()
        self._file.close()
