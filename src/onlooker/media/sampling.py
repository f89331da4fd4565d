"""Which frames to take: each policy is a function from what is known of a clip to frame numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onlooker.media.clip import Clip


class OutsideClip(ValueError):
    """A time at which the clip is over."""


class Stretch:
    """The part of a clip between two times, as frame numbers `first` (included) to `last` (not included).

    Raises:
        OutsideClip: `start` is behind the clip's end.
        ValueError: the times are out of order, or the clip has no times.
    """

    def __init__(self, clip: Clip, start: float | None = None, end: float | None = None) -> None:
        self.clip = clip
        self.first, self.last = 0, clip.count
        self.start, self.end = 0.0, clip.duration
        if start is None and end is None:
            return
        times = times_of(clip)
        length = clip.duration or 0.0
        start = 0.0 if start is None else start
        if not 0 <= start < length:
            raise OutsideClip(f"start {start:g} s is not inside {clip.name}, which is {length:.2f} s long")
        if end is not None and not end > start:
            raise ValueError(f"end {end:g} s is not after start {start:g} s")
        self.start = start
        self.end = length if end is None else min(end, length)
        self.first = int(np.searchsorted(times, start, side="left"))
        self.last = int(np.searchsorted(times, self.end, side="left"))
        if self.last <= self.first:  # shorter than a frame: the one that is on the screen
            self.first = frame_at(clip, start)
            self.last = self.first + 1

    @property
    def count(self) -> int:
        return self.last - self.first


def times_of(clip: Clip) -> np.ndarray:
    """When each frame is shown.

    Raises:
        ValueError: nothing tells.
    """
    if clip.times is None:
        raise ValueError(f"{clip.name} has no times; give source_fps, its frames per second, or choose by indices")
    return clip.times


def frame_at(clip: Clip, second: float) -> int:
    """The frame that is on the screen at a time."""
    return max(0, int(np.searchsorted(times_of(clip), second + 1e-6, side="right")) - 1)


def spread(count: int, wanted: int) -> list[int]:
    """floor(i * count / wanted): the documents' `arange(0, count, count / wanted)` in whole numbers.

    Frames repeat where there are fewer than wanted.
    """
    return [i * count // wanted for i in range(wanted)]


def uniform(stretch: Stretch, wanted: int) -> list[int]:
    return [stretch.first + i for i in spread(stretch.count, wanted)]


def linspace(stretch: Stretch, wanted: int) -> list[int]:
    """First and last frame included, as the original Video-LLaVA samples; numpy's own rounding is part of that."""
    if stretch.count < wanted:
        return uniform(stretch, wanted)
    return np.linspace(stretch.first, stretch.last - 1, wanted, dtype=int).tolist()


def by_time(stretch: Stretch, wanted: int) -> list[int]:
    """Evenly in time: what is on the screen, which differs from `uniform` where the frame rate varies."""
    times_of(stretch.clip)
    length = (stretch.end or 0.0) - stretch.start
    return [_inside(stretch, frame_at(stretch.clip, stretch.start + i * length / wanted)) for i in range(wanted)]


def at_rate(stretch: Stretch, rate: float) -> list[int]:
    """What is on the screen every 1 / rate seconds."""
    times_of(stretch.clip)
    length = (stretch.end or 0.0) - stretch.start
    steps = max(1, math.ceil(length * rate - 1e-6))
    return [_inside(stretch, frame_at(stretch.clip, stretch.start + i / rate)) for i in range(steps)]


def key_frames(stretch: Stretch) -> list[int]:
    """Every key frame of the stretch; where it has none, its first frame."""
    keys = stretch.clip.keys
    keys = keys[(keys >= stretch.first) & (keys < stretch.last)]
    return keys.tolist() or [stretch.first]


def at_indices(clip: Clip, indices: Sequence[int]) -> list[int]:
    """Frame numbers as given; negative ones count from the end.

    Raises:
        ValueError: the clip has no such frame.
    """
    numbers = [int(index) for index in indices]
    for number in numbers:
        if not -clip.count <= number < clip.count:
            raise ValueError(f"{clip.name} has {clip.count} frames; there is no frame {number}")
    return [number % clip.count for number in numbers]


def at_seconds(clip: Clip, seconds: Sequence[float]) -> list[int]:
    """The frames on the screen at the times given.

    Raises:
        ValueError: a time is outside the clip, or the clip has no times.
    """
    times_of(clip)
    length = clip.duration or 0.0
    for second in seconds:
        if not 0 <= second <= length:
            raise ValueError(f"{clip.name} is {length:.2f} s long; there is no frame at {second:g} s")
    return [frame_at(clip, float(second)) for second in seconds]


def _inside(stretch: Stretch, number: int) -> int:
    return min(max(number, stretch.first), stretch.last - 1)
