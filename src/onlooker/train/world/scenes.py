"""Draws scenes from a seed: the same seed gives the same facts, and no split shares one with another."""

from __future__ import annotations

import math

import numpy as np

from onlooker.train.world.background import TEXTURES
from onlooker.train.world.facts import (
    COLORS,
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    SPLITS,
    Scene,
    Stage,
    Thing,
    is_held_out,
    is_possible,
)
from onlooker.train.world.tracks import GROWN, place

_COLORS = tuple(COLORS)
_HELD_OUT = [
    (color, shape, motion)
    for color in COLORS
    for shape in SHAPES
    for motion in MOTIONS
    if is_possible(shape, motion) and is_held_out(color, shape, motion)
]
_HELD_OUT_STILL = [combination for combination in _HELD_OUT if combination[2] == "still"]
_EDGE = 0.11  # of the clip: an appearance is at least this far from the borders of its third, so that frames show it
_CANDIDATES = 24  # places that are tried for a thing
_PROBES = np.linspace(0.0, 1.0, 9)  # times at which things are held apart
_APART = 0.66  # of the sum of two radii: closer would hide too much, farther apart would leave nothing occluded


def draw_scene(seed: int, split: str = "train", *, is_still: bool = False, num_things: int | None = None) -> Scene:
    """Draw the facts of one clip or still.

    Args:
        seed: any number from 0; each split has its own scenes for it.
        split: "train", "val" and "test" have the same distribution; in "combos" every thing is of a combination of
            colour, shape and motion that the others never show.
        num_things: 1 to 4; drawn when not given.

    Raises:
        ValueError: no such split, a negative seed, or a number of things out of range.
    """
    if split not in SPLITS or seed < 0:
        raise ValueError(f"split {split!r} and seed {seed}: wanted one of {', '.join(SPLITS)}, and a seed from 0")
    if num_things is not None and not 1 <= num_things <= 4:
        raise ValueError(f"num_things is {num_things}; a scene has 1 to 4 things")
    rng = np.random.default_rng([SPLITS.index(split), int(is_still), seed])
    count = num_things or 1 + int(rng.integers(4))
    combinations = _combinations(rng, count, split == "combos", is_still)
    things: list[Thing] = []
    paths: list[np.ndarray] = []
    for combination in combinations:
        thing, path = _thing(rng, *combination, crowded=count > 2, others=things, paths=paths)
        things.append(thing)
        paths.append(path)
    return Scene(seed, split, tuple(things), draw_stage(rng, is_still), is_still)


def draw_stage(rng: np.random.Generator, is_still: bool = False) -> Stage:
    """Draw a background, noise and disturbances."""
    grey = rng.uniform(28, 92)
    tint = rng.uniform(-14, 14, 3)
    red, green, blue = (float(value) for value in np.clip(grey + tint, 8, 110))
    return Stage(
        texture=TEXTURES[int(rng.integers(len(TEXTURES)))],
        base=(red, green, blue),
        contrast=float(rng.uniform(6, 22)),
        frequency=float(rng.uniform(2, 7)),
        direction=float(rng.uniform(0, 2 * math.pi)),
        noise=float(rng.uniform(0, 9)),
        jitter=0.0 if is_still or rng.random() < 0.5 else float(rng.uniform(0.01, 0.03)),
        post=(float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.04, 0.07))) if rng.random() < 0.2 else None,
    )


def _combinations(rng: np.random.Generator, count: int, held_out: bool, is_still: bool) -> list[tuple[str, str, str]]:
    """(colour, shape, motion) for each thing; no two things share colour and shape."""
    chosen: list[tuple[str, str, str]] = []
    while len(chosen) < count:
        if held_out:
            pool = _HELD_OUT_STILL if is_still else _HELD_OUT
            color, shape, motion = pool[int(rng.integers(len(pool)))]
        else:
            color, shape = _COLORS[int(rng.integers(len(_COLORS)))], SHAPES[int(rng.integers(len(SHAPES)))]
            motion = "still" if is_still else MOTIONS[int(rng.integers(len(MOTIONS)))]
            if chosen and rng.random() < 0.4:  # share a colour or a shape, so that both must be seen together
                other = chosen[int(rng.integers(len(chosen)))]
                color, shape = (other[0], shape) if rng.random() < 0.5 else (color, other[1])
            if is_held_out(color, shape, motion) or not is_possible(shape, motion):
                continue
        if all((color, shape) != known[:2] for known in chosen):
            chosen.append((color, shape, motion))
    return chosen


def _timing(rng: np.random.Generator, motion: str) -> tuple[str | None, float, float]:
    """When a thing acts: name, begin and end.  The choice looks the same in a clip that runs backwards."""
    if motion == "still":
        return None, 0.0, 1.0
    sudden = motion in ("appear", "vanish")
    if not sudden and rng.random() < 0.25:
        return "whole", 0.0, 1.0
    third = int(rng.integers(3))
    low, high = third / 3, (third + 1) / 3
    if sudden:
        moment = float(rng.uniform(low + _EDGE, high - _EDGE))
        return ("start", "middle", "end")[third], moment, moment
    return ("start", "middle", "end")[third], low + float(rng.uniform(0, 0.04)), high - float(rng.uniform(0, 0.04))


def _thing(
    rng: np.random.Generator,
    color: str,
    shape: str,
    motion: str,
    *,
    crowded: bool,
    others: list[Thing],
    paths: list[np.ndarray],
) -> tuple[Thing, np.ndarray]:
    """Draw size, time and place of a thing, as far from the others as can be had."""
    timing, begin, end = _timing(rng, motion)
    radius = float(rng.uniform(0.11, 0.14) if crowded else rng.uniform(0.12, 0.17))
    is_long = timing == "whole"
    travel = turn = 0.0
    if motion in DIRECTIONS:
        travel = float(rng.uniform(0.38, 0.5) if is_long else rng.uniform(0.3, 0.4))
    elif motion == "bounce":
        travel = float(rng.uniform(0.2, 0.28))
    elif motion == "turn":
        turn = float(rng.uniform(2.4, 4.4) if is_long else rng.uniform(1.1, 1.9)) * (1 if rng.random() < 0.5 else -1)
    angle = float(rng.uniform(-0.16, 0.16))
    shade = float(rng.uniform(0.9, 1.0))
    thing = Thing(color, shape, motion, timing, begin, end, 0.5, 0.5, radius, angle, travel, turn, shade)
    offsets = place([thing], _PROBES)[0, :, :2] - 0.5  # [probes, 2]
    reach = np.abs(offsets).max(0) + radius * (GROWN if motion in ("grow", "shrink") else 1.0) + 0.01
    spots = 0.5 + (rng.random((_CANDIDATES, 2)) - 0.5) * (1 - 2 * reach)
    spot = spots[0] if not others else spots[_best(spots, offsets, radius, others, paths)]
    path = spot + offsets
    x, y = (float(value) for value in spot)
    return Thing(color, shape, motion, timing, begin, end, x, y, radius, angle, travel, turn, shade), path


def _best(spots: np.ndarray, offsets: np.ndarray, radius: float, others: list[Thing], paths: list[np.ndarray]) -> int:
    """The first spot that keeps its distance from all paths, or else the one that comes nearest to that."""
    mine = spots[:, None, None] + offsets[None, None]  # [spots, 1, probes, 2]
    gaps = np.sqrt(((mine - np.stack(paths)[None]) ** 2).sum(-1)).min(-1)  # [spots, others]
    gaps = (gaps / np.array([radius + other.radius for other in others])).min(-1)
    return int(np.argmax(np.minimum(gaps, _APART)))
