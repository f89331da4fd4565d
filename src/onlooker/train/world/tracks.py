"""Where the things of a scene are at given times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onlooker.train.world.facts import Thing

SMALL, GROWN = 0.62, 1.25  # of a thing's radius, before and after it grows


def frame_times(num_frames: int) -> np.ndarray:
    """Times [F] of the frames of a clip, its first at 0 and its last at 1."""
    return np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)


def place(things: Sequence[Thing], times: np.ndarray) -> np.ndarray:
    """Where things are.

    Returns:
        [things, F, 5]: x, y, radius (fractions of the side), angle (radians), and 1 where it is there, else 0.
    """
    out = np.empty((len(things), len(times), 5))
    for thing, track in zip(things, out):
        track[:] = thing.x, thing.y, thing.radius, thing.angle, 1.0
        if thing.motion == "appear":
            track[:, 4] = times >= thing.begin
        elif thing.motion == "vanish":
            track[:, 4] = times < thing.begin
        elif thing.motion != "still":
            _act(thing, track, np.clip((times - thing.begin) / (thing.end - thing.begin), 0.0, 1.0))
        if thing.shown != (-1.0, 2.0):
            track[:, 4] *= (times >= thing.shown[0]) & (times < thing.shown[1])
    return out


def _act(thing: Thing, track: np.ndarray, done: np.ndarray) -> None:
    """Move a track; `done` [F] says how much of the action is over."""
    motion = thing.motion
    if motion in ("left", "right"):
        track[:, 0] += thing.travel * (done - 0.5) * (1 if motion == "right" else -1)
    elif motion in ("up", "down"):
        track[:, 1] += thing.travel * (done - 0.5) * (1 if motion == "down" else -1)
    elif motion == "turn":
        track[:, 3] += thing.turn * (done - 0.5)
    elif motion == "grow":
        track[:, 2] *= SMALL + (GROWN - SMALL) * done
    elif motion == "shrink":
        track[:, 2] *= GROWN - (GROWN - SMALL) * done
    elif motion == "bounce":
        jumps = 3 if thing.timing == "whole" else 1
        track[:, 1] -= thing.travel * (np.abs(np.sin(math.pi * jumps * done)) - 0.5)
