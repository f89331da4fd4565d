"""Long clips in which almost nothing happens: one thing is there for a few seconds, and that is what is asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onlooker.train.world.facts import MOTIONS, SPLITS, Scene, Thing, is_held_out, is_possible
from onlooker.train.world.files import write_frames
from onlooker.train.world.phrasings import VERBS
from onlooker.train.world.render import render_at
from onlooker.train.world.scenes import draw_scene

_EVENT_MOTIONS = tuple(motion for motion in MOTIONS if motion not in ("appear", "vanish", "still"))
_PIECE = 64  # frames that are rendered at a time


@dataclass(frozen=True)
class LongClip:
    """A long scene with one event.  The thing of the event has a colour and a shape that nothing else has."""

    scene: Scene
    event: Thing  # the last of the scene's things
    start: float  # seconds at which it comes
    end: float  # ... and is gone

    @property
    def query(self) -> str:
        """Words that describe the event, for a search among frames."""
        return f"a {self.event.name}" if self.event.color[0] not in "aeiou" else f"an {self.event.name}"

    @property
    def questions(self) -> list[tuple[str, str]]:
        """Questions about the event with their answers."""
        event = self.event
        return [
            (f"what color is the {event.shape}?", event.color),
            (f"what shape is the {event.color} thing?", event.shape),
            (f"what does the {event.name} do?", VERBS[event.motion][0]),
            (f"is there a {event.name}?", "yes"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON can hold them."""
        questions = [{"question": question, "answer": answer} for question, answer in self.questions]
        window = {"start": self.start, "end": self.end, "query": self.query, "questions": questions}
        return {"scene": self.scene.to_dict(), **window}


def draw_long(
    seed: int, split: str = "test", *, seconds: float = 600.0, event_seconds: float = 3.0, num_others: int = 2
) -> LongClip:
    """Draw the facts of a long clip.

    Args:
        seconds: how long the clip is.
        event_seconds: how long the event's thing is there.
        num_others: things that are there all the time and do nothing.

    Raises:
        ValueError: an event that is as long as the clip, more than 3 others, or what `draw_scene` refuses.
    """
    if not 0 < event_seconds < seconds or not 0 <= num_others <= 3:
        raise ValueError(f"{event_seconds} of {seconds} seconds with {num_others} others: wanted a part, and 0 to 3")
    for attempt in range(1000):
        scene = draw_scene(seed * 1000 + attempt, split, num_things=num_others + 1, is_still=True)
        *others, last = scene.things
        if all(last.color != other.color and last.shape != other.shape for other in others):
            break
    rng = np.random.default_rng([SPLITS.index(split), 7, seed])
    start = float(rng.uniform(0, seconds - event_seconds))
    window = start / seconds, (start + event_seconds) / seconds
    held_out = split == "combos"
    motions = [motion for motion in _EVENT_MOTIONS if is_possible(last.shape, motion)]
    motions = [motion for motion in motions if is_held_out(last.color, last.shape, motion) == held_out] or motions
    motion = motions[int(rng.integers(len(motions)))]
    event = replace(
        last,
        motion=motion,
        timing=None,
        begin=window[0],
        end=window[1],
        shown=window,
        travel=0.2,
        turn=math.pi if motion == "turn" else 0.0,
        x=float(np.clip(last.x, 0.3, 0.7)),
        y=float(np.clip(last.y, 0.3, 0.7)),
    )
    scene = replace(scene, things=(*others, event), seconds=seconds, is_still=False)
    return LongClip(scene, event, start, start + event_seconds)


def long_frames(clip: LongClip, size: int = 112, fps: int = 4) -> Iterator[np.ndarray]:
    """The frames uint8 [size, size, 3] of a long clip, one by one; only a piece of it is in memory."""
    count = round(clip.scene.seconds * fps)
    for piece, first in enumerate(range(0, count, _PIECE)):
        times = np.arange(first, min(count, first + _PIECE)) / count
        yield from render_at(clip.scene, times, size, salt=piece)[0]


def write_long(clip: LongClip, path: str | os.PathLike[str], *, size: int = 112, fps: int = 4) -> Path:
    """Write a long clip as an MP4 file, with a frame to jump to every five seconds."""
    return write_frames(long_frames(clip, size, fps), path, fps=fps, quality=20, key_every=5 * fps)
