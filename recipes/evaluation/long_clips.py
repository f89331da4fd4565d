"""Ten minutes with one event of three seconds: do the frames that a search chooses show it, do windows name it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onlooker import Onlooker, load_video
from onlooker.media import Frames
from onlooker.pipeline import Answer
from onlooker.train.world import LongClip, draw_long, write_long
from recipes.evaluation.counting import Share
from recipes.evaluation.exam import FRAMES

WINDOW = 8.0  # seconds: eight frames of it are a second apart, so that three of them show the event
WAYS = {"yes alone": ["yes"], "yes or no": None}  # choices; None leaves them to the family


def written(n: int, size: int, fps: int, seconds: float = 600.0) -> Iterator[tuple[LongClip, Path]]:
    """Write one long clip after the other as H.264; each file is gone when the next comes."""
    for seed in range(n):
        clip = draw_long(seed, "test", seconds=seconds)
        with TemporaryDirectory() as folder:
            yield clip, write_long(clip, Path(folder) / "long.mp4", size=size, fps=fps)


def long_clips(
    seeker: Onlooker | None,
    models: Mapping[str, Onlooker],
    n: int = 30,
    *,
    size: int = 112,
    fps: int = 2,
    window: float = WINDOW,
) -> dict[str, Any]:
    """How often the event is found, by search and by windows.

    Args:
        seeker: a matching checkpoint, for the search.
        models: those that answer, for the windows.
    """
    marks: dict[str, list[bool]] = {}
    for clip, path in written(n, size, fps):
        found = {} if seeker is None else search(seeker, clip, path)
        for name, eyes in models.items():
            found |= {f"{name}: {way}": hit for way, hit in windows(eyes, clip, path, window).items()}
        for way, hit in found.items():
            marks.setdefault(way, []).append(hit)
    length = {"seconds of a window": window} if models else {}
    return {"frames": FRAMES, **length, "found": {way: Share.of(hits) for way, hits in marks.items()}}


def search(seeker: Onlooker, clip: LongClip, path: Path) -> dict[str, bool]:
    """Whether one of eight frames shows the event: of those that fit its words best, and of those evenly spread."""
    chosen = load_video(path, FRAMES, sampling="query", score=seeker.scorer(clip.query))
    return {"query": shows(clip, chosen), "uniform": shows(clip, load_video(path, FRAMES))}


def shows(clip: LongClip, frames: Frames) -> bool:
    """Whether some frame is of the time of the event."""
    return any(clip.start <= second < clip.end for second in frames.seconds)


def windows(
    eyes: Onlooker, clip: LongClip, path: Path, seconds: float = WINDOW, ways: Sequence[str] = tuple(WAYS)
) -> dict[str, bool]:
    """Whether the merged answer of `Onlooker.ask(windows=)` comes from a window of the event, and whether it is right.

    A closed question is answered by the window that is surest of its own answer. With "yes" as the only answer that is
    the window in which the thing is likeliest to be; with yes and no, one that is sure of "no" may win.
    """
    found = {}
    for way in ways:
        merged = eyes.ask(path, f"is there a {clip.event.name}?", windows=seconds, choices=WAYS[way])
        found[f"{way}, window"] = names_event(clip, merged)
        if WAYS[way] is None:
            found[f"{way}, answer"] = merged.text.lower() == "yes"
    return found


def names_event(clip: LongClip, merged: Answer) -> bool:
    """Whether the merged answer comes from a window in which the event happens."""
    chosen = next(window for window in merged.windows or () if window.answer.frames == merged.frames)
    return chosen.start < clip.end and clip.start < chosen.end
