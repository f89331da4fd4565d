"""Captions of scenes, the facts that a caption states, and pairs that differ in one fact."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onlooker.train.world.facts import COLORS, SHAPES, Scene, Thing, is_held_out, is_possible
from onlooker.train.world.phrasings import CAPTION_OPENINGS, VERBS
from onlooker.train.world.questions import wrong_motion

Stated = frozenset[tuple[str, str, str]]  # (colour, shape, motion); the motion is "still" where none is said

_COLORS = tuple(COLORS)
_MOTION_OF = {verb: motion for motion, (verb, _) in VERBS.items()}
_CLAUSE = re.compile(
    rf"\ban? ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b(?: ({'|'.join(map(re.escape, _MOTION_OF))})\b)?"
)


@dataclass(frozen=True)
class Pair:
    """A caption that fits the scene, and one that differs from it in a single fact."""

    caption: str
    wrong: str
    changed: str  # "color", "shape", "motion" or "binding" (two things have exchanged their colours)


def caption(scene: Scene, rng: random.Random | None = None) -> str:
    """What is in a scene and what it does.

    Args:
        rng: without it the one caption in the fixed order of colours; with it, any order and opening.
    """
    if rng is None:
        return _say(_sorted(scene.things), scene.is_still)
    things = list(scene.things)
    rng.shuffle(things)
    return rng.choice(CAPTION_OPENINGS) + _say(things, scene.is_still)


def stated_facts(text: str) -> Stated:
    """The facts that a caption states, to compare captions whatever their order and opening."""
    return frozenset(
        (color, shape, _MOTION_OF.get(verb, "still")) for color, shape, verb in _CLAUSE.findall(" ".join(text.split()))
    )


def facts_of(scene: Scene) -> Stated:
    """The facts that a whole and true caption states."""
    return frozenset((thing.color, thing.shape, thing.motion) for thing in scene.things)


def pair(scene: Scene, rng: random.Random) -> Pair:
    """A true caption and a hard negative to it."""
    right = facts_of(scene)
    kinds = ["color", "shape", "binding"] + ([] if scene.is_still else ["motion", "motion"])
    while True:
        changed = rng.choice(kinds)
        things = _changed(scene, changed, rng)
        if things is None or {(thing.color, thing.shape, thing.motion) for thing in things} == right:
            continue
        names = {thing.name for thing in things}
        is_fair = scene.split == "combos" or not any(is_held_out(t.color, t.shape, t.motion) for t in things)
        if len(names) == len(things) and is_fair and all(is_possible(t.shape, t.motion) for t in things):
            return Pair(caption(scene), _say(_sorted(things), scene.is_still), changed)


def _changed(scene: Scene, kind: str, rng: random.Random) -> list[Thing] | None:
    things = list(scene.things)
    number = rng.randrange(len(things))
    thing = things[number]
    if kind == "color":
        things[number] = replace(thing, color=rng.choice(_COLORS))
    elif kind == "shape":
        things[number] = replace(thing, shape=rng.choice(SHAPES))
    elif kind == "motion":
        things[number] = replace(thing, motion=wrong_motion(scene, thing, rng))
    else:
        if len(things) < 2:
            return None
        one, two = rng.sample(range(len(things)), 2)
        first, second = things[one], things[two]
        things[one], things[two] = replace(first, color=second.color), replace(second, color=first.color)
    return things


def _sorted(things: Sequence[Thing]) -> list[Thing]:
    return sorted(things, key=lambda thing: (_COLORS.index(thing.color), SHAPES.index(thing.shape)))


def _say(things: Sequence[Thing], is_still: bool) -> str:
    article = {thing: "an" if thing.color[0] in "aeiou" else "a" for thing in things}
    clauses = [f"{article[t]} {t.name}" + ("" if is_still else f" {VERBS[t.motion][0]}") for t in things]
    return " and ".join(clauses)
