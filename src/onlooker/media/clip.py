"""What every kind of clip can tell and do: the interface between reading frames and choosing them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np

from onlooker.errors import MediaError
from onlooker.media.decode import check_size
from onlooker.media.limits import VideoLimits

ClipType = TypeVar("ClipType", bound="Clip")


class FramesLost(Exception):
    """Frames that the index promised did not come out of the decoder; `Clip.repair` counts again."""


class Clip(ABC):
    """A source of numbered frames.  Subclasses fill in the facts, and read."""

    name: str
    codec: str
    limits: VideoLimits
    times: np.ndarray | None  # float64 [frames], seconds from the first frame on, rising; None when nothing tells
    count: int
    fps: float | None
    duration: float | None  # seconds from the first frame until the last one is gone
    keys: np.ndarray  # numbers of the frames that can be decoded by themselves
    sizes: np.ndarray | None = None  # bytes that each frame takes in the file, a free hint at how much changes
    notes: list[str]  # what the user should be told
    may_change_size: bool = False  # whether frames of several sizes are scaled to the first one's

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, uint8 [h, w, 3]) for rising, distinct frame numbers, one picture in memory at a time.

        Raises:
            FramesLost: a frame that should be there did not come out.
            MediaError: it cannot be read at all, or a limit is exceeded.
        """

    def prepare(self) -> None:  # noqa: B027  (most kinds know their count)
        """Make `count` right where a file shows signs of damage; before the first choice of frames.

        Raises:
            MediaError: no frame could be decoded, or too many would have to be.
        """

    def repair(self) -> None:
        """Count the frames that really come out, after `FramesLost`."""
        raise MediaError(f"{self.name} changed while it was read")

    def close(self) -> None:  # noqa: B027  (most kinds have nothing to close)
        """Give back files and threads."""

    def __enter__(self: ClipType) -> ClipType:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def seconds_of(self, indices: Sequence[int]) -> list[float]:
        """When each frame is first shown; nan where the clip has no times."""
        return [float("nan") if self.times is None else float(self.times[index]) for index in indices]

    def check_picture(self, width: int, height: int) -> None:
        """Hold one frame against the limits.

        Raises:
            MediaError: it is too large or too narrow.
        """
        ratio = self.limits.max_side_ratio
        megapixels = self.limits.max_megapixels
        if megapixels is not None and width * height > megapixels * 1e6:
            raise MediaError(
                f"{self.name}: {width}x{height} frames are over the limit of {megapixels:g} megapixels; "
                "shrink the video, or raise max_megapixels in limits"
            )
        check_size((width, height), self.name, max_megapixels=None, max_side_ratio=ratio)
