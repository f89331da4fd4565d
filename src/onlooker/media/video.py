"""Reads frames from anything that moves: `load_video`, `iter_windows`, and `probe_video` without decoding."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onlooker.media.collect import Resize, Wish, check, collect
from onlooker.media.frames import Frames
from onlooker.media.limits import VideoLimits
from onlooker.media.opening import Opening, open_clip
from onlooker.media.picture import stretched_size
from onlooker.media.sampling import OutsideClip, Stretch, times_of
from onlooker.media.scene import Score
from onlooker.media.videofile import VideoFile

_SHORTEST_WINDOW = 0.1  # of a window: a shorter rest of the clip is seen together with the window before it


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before its frames are decoded."""

    source: str
    frames: int  # by the packets that are there, not by what the header claims; a damaged end may decode to fewer
    duration: float | None  # seconds; None where nothing tells
    fps: float | None  # on average
    width: int  # as shown: upright, with square pixels
    height: int
    rotation: int  # degrees counter-clockwise by which stored frames are turned
    codec: str
    key_frames: int
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.width, self.height


def load_video(
    source: Any,
    num_frames: int | None = None,
    sampling: str = "uniform",
    indices: Sequence[int] | None = None,
    seconds: Sequence[float] | None = None,
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits | None = None,
    stream: int = 0,
    *,
    fps: float | None = None,
    resize: Resize | None = None,
    score: Score | None = None,
    source_fps: float | None = None,
    square_pixels: bool = True,
    threads: int = 0,
    timeout: float = 30.0,
) -> Frames:
    """Take frames out of a clip: exactly those that decoding everything would give, but decoding only what is needed.

    Args:
        source: path, http(s) URL, data: URL, bytes or binary file object of a video, GIF, WebP, APNG or AVIF; folder of
            image files; array or tensor [F, h, w, C] or [F, C, h, w]; list of Pillow images or arrays.
        num_frames: how many come back, 8 by default; a clip with fewer repeats some (floor(i * F / num_frames)), with a
            warning. For "all", "fps", "indices" and "seconds" the default is all that these give.
        sampling: "uniform" (i * F // num_frames), "linspace" (first and last frame included), "time" (evenly in time),
            "fps", "window" (uniform between start and end), "all", "indices", "seconds", "keyframes", "scene" (frames
            that differ most), "query" (frames that `score` prefers).
        indices: these frames, in this order; negative ones count from the end.
        seconds: the frames that are on the screen at these times.
        start, end: only what begins between these times, in seconds from the first frame.
        limits: what is refused, see `VideoLimits`.
        stream: which video stream of the file; cover pictures do not count.
        fps: frames per second to take for "fps", which it implies.
        resize: (height, width), or a function that is given each picture [h, w, 3] as it comes out of the decoder; its
            results are stacked. Full-size frames are not kept.
        score: list of pictures -> a number for each; the highest are taken. Implies "query".
        source_fps: frames per second of a folder, a list or an array, which have no times otherwise.
        square_pixels: stretch frames whose stored pixels are not square.
        threads: decoder threads, 0 for one per core; take 1 when many clips are read at once.
        timeout: seconds to wait for a server.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: it cannot be read as a video (the message says why), or it is over a limit.
        ValueError: arguments contradict each other, or ask for what is outside the clip.
        TypeError: `source` is of none of these kinds.
    """
    wish = check(Wish(num_frames, sampling, indices, seconds, fps, resize, score), start, end)
    how = Opening(limits, stream, square_pixels, threads, source_fps, timeout)
    with open_clip(source, how) as clip:
        frames = collect(clip, wish, start, end)
    for text in frames.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    return frames


def iter_windows(
    source: Any,
    seconds: float,
    num_frames: int | None = None,
    sampling: str = "uniform",
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits | None = None,
    stream: int = 0,
    *,
    fps: float | None = None,
    resize: Resize | None = None,
    score: Score | None = None,
    source_fps: float | None = None,
    square_pixels: bool = True,
    threads: int = 0,
    timeout: float = 30.0,
) -> Iterator[Frames]:
    """Go through a clip of any length in windows of `seconds`, with frames of one window in memory at a time.

    The other arguments and the errors are those of `load_video`; `Frames.start` and `.end` tell the window. A rest of
    less than a tenth of a window belongs to the window before it.
    """
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"windows of {seconds!r} s; give seconds above 0")
    wish = check(Wish(num_frames, sampling, None, None, fps, resize, score), start, end)
    how = Opening(limits, stream, square_pixels, threads, source_fps, timeout)
    return _windows(source, how, seconds, wish, start, end)


def _windows(
    source: Any, how: Opening, seconds: float, wish: Wish, start: float | None, end: float | None
) -> Iterator[Frames]:
    said: set[str] = set()
    with open_clip(source, how) as clip:
        clip.prepare()
        times_of(clip)
        whole = Stretch(clip, start, end)
        begin = whole.start
        while True:
            # Asked again in each round: a damaged clip may turn out to be shorter.
            last = min(whole.end or 0.0, clip.duration or 0.0)
            if begin >= last:
                return
            until = begin + seconds if last - begin > (1 + _SHORTEST_WINDOW) * seconds else last
            try:
                frames = collect(clip, wish, begin, until)
            except OutsideClip:
                frames = None
            for text in clip.notes if frames is None else frames.warnings:
                if text not in said:
                    said.add(text)
                    warnings.warn(text, UserWarning, stacklevel=2)
            if frames is None:
                return
            yield frames
            begin = until


def probe_video(
    source: Any,
    *,
    limits: VideoLimits | None = None,
    stream: int = 0,
    source_fps: float | None = None,
    timeout: float = 30.0,
) -> VideoInfo:
    """Count the frames of a clip and say how it is stored, decoding no more than its first frame.

    Arguments and errors are those of `load_video`.
    """
    with open_clip(source, Opening(limits, stream, source_fps=source_fps, timeout=timeout)) as clip:
        rotation = 0
        if isinstance(clip, VideoFile):
            frame = clip.first_frame()
            rotation, height, width = frame.rotation % 360, frame.height, frame.width
            if clip.aspect != 1.0:
                height, width = stretched_size(height, width, clip.aspect)
            if rotation % 180 == 90:
                height, width = width, height
        else:
            height, width = next(clip.read([0]))[1].shape[:2]
        return VideoInfo(
            clip.name,
            clip.count,
            clip.duration,
            clip.fps,
            width,
            height,
            rotation,
            clip.codec,
            len(clip.keys),
            tuple(clip.notes),
        )
