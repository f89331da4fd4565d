"""What is seen, in words: what a decoder hears before there are pictures, and what pictures are then turned into.

A patch says the color, the shape, the motion and the time of the thing in it, all at once, as the sum of the
embeddings of these words; what is not known yet is not said. A class token says how many things have been seen so far.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from onlooker.train.world.facts import COLORS, MOTIONS, SHAPES, TIMINGS, Scene, Thing
from onlooker.train.world.phrasings import NUMBERS, VERBS, WHEN
from onlooker.train.world.tracks import frame_times, place
from recipes.tiny import FRAMES, PATCH, SIZE, WIDTH, words

UNSURE = -100  # a word that may be known or not: an action that goes on
NUMBER_OF = {word: number for number, word in enumerate(words())}
#: what a patch can say, one word of each
CHANNELS = {
    "colors": tuple(COLORS),
    "shapes": SHAPES,
    "motions": tuple(VERBS[motion][0].split()[-1] for motion in MOTIONS),
    "timings": tuple(WHEN[timing].split()[-1] for timing in TIMINGS),
}
_GRID = SIZE // PATCH
_MIDDLES = (np.stack(np.meshgrid(np.arange(_GRID), np.arange(_GRID)), -1).reshape(-1, 2) + 0.5) / _GRID  # [P, 2]: x, y
_COLOR, _SHAPE, _MOTION, _TIMING = ({x: NUMBER_OF[word] for x, word in zip(of, said)} for of, said in zip(
    (COLORS, SHAPES, MOTIONS, TIMINGS), CHANNELS.values()
))  # fmt: skip
_COUNTS = [NUMBER_OF[number] for number in NUMBERS]
_LATE = 0.02  # of the clip: so long after its end an action is surely over
_LEAST = 0.04  # of a patch: what covers less is not seen in it
# Where a thing is has no word of its own: two directions that are drawn once, for right and for below.
_PLACES = 0.3 * torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))


def say(scene: Scene, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each token of each frame says.

    Args:
        shares: how much of each patch each thing covers, [things, F, P]; patches where a thing has vanished are given
            to it in place.

    Returns:
        Numbers of words [F, 1 + P, 4] (0: none, UNSURE: one that may be known), class token first, and places
        [F, 1 + P, 2], from -2 to 2, right and below of the middle.
    """
    times = frame_times(shares.shape[1])
    tracks = place(scene.things, times)  # [things, F, 5]
    _remember_vanished(scene, shares, tracks[..., 4] > 0)
    winner, empty = shares.argmax(0), shares.sum(0) < _LEAST
    is_seen = (winner == np.arange(len(scene.things))[:, None, None]) & ~empty  # [things, F, P]
    facts = np.array([[_words(scene, thing, time) for time in times] for thing in scene.things])  # [things, F, 4]
    rows = np.arange(len(times))[:, None]
    said = np.zeros((len(times), 1 + winner.shape[1], len(CHANNELS)), int)
    said[:, 1:] = facts[winner, rows] * ~empty[..., None]
    said[:, 0, 0] = np.take(_COUNTS, np.logical_or.accumulate(is_seen.any(2), 1).sum(0))
    places = np.zeros((*said.shape[:2], 2), np.float32)
    places[:, 1:] = (tracks[winner, rows, :2] - 0.5) * 4 * ~empty[..., None]
    return said, places


def embed(table: Tensor, said: Tensor, places: Tensor) -> Tensor:
    """Words [..., 4] and places [..., 2] -> sums of their embeddings [..., D]; a word of a text says itself alone."""
    known = (said > 0)[..., None]
    return (table[said.clamp(min=0)] * known).sum(-2) + places.to(table.dtype) @ _PLACES


def guess_shares(scene: Scene) -> np.ndarray:
    """Roughly how much of each patch each thing covers [things, F, P], without a picture of it."""
    tracks = place(scene.things, frame_times(1 if scene.is_still else FRAMES))
    away = np.abs(_MIDDLES - tracks[..., None, :2]).max(-1)  # [things, F, P]
    covers = away < 0.85 * tracks[..., 2:3] + 0.35 / _GRID
    covers |= away == away.min(-1, keepdims=True)
    covers &= tracks[..., None, 4] > 0
    in_front = np.cumsum(covers[::-1], 0)[::-1] - covers  # how many later things cover the same patch
    return (covers & (in_front == 0)).astype(float)


def _words(scene: Scene, thing: Thing, time: float) -> tuple[int, int, int, int]:
    """Colour, shape, motion and timing of a thing, as far as they can be known at a time.

    That a thing stays still is known at the end alone: said before, it would drown what it does later.
    """
    name = _COLOR[thing.color], _SHAPE[thing.shape]
    if scene.is_still:
        return (*name, 0, 0)
    if not thing.acts:
        return (*name, _MOTION["still"] if time == 1.0 else 0, 0)
    known = _MOTION[thing.motion], _TIMING[thing.timing or "whole"]
    over = 0.5 if thing.timing == "whole" else min(thing.end + _LATE, 1.0)
    if time <= thing.begin:
        return (*name, 0, 0)
    return (*name, *known) if time >= over else (*name, UNSURE, UNSURE)


def _remember_vanished(scene: Scene, shares: np.ndarray, there: np.ndarray) -> None:
    """Where a thing has vanished, its patches keep its name."""
    for number, thing in enumerate(scene.things):
        gone = ~there[number]
        if thing.motion == "vanish" and not gone.all():
            shares[number, gone] = 0.5 * shares[number, ~gone][-1]
