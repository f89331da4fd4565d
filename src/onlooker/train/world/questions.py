"""Questions about a scene with their answers, one at a time or as the turns of a dialogue."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onlooker.train.world.facts import (
    BACKWARDS,
    COLORS,
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    Scene,
    Thing,
    is_held_out,
    is_possible,
)
from onlooker.train.world.phrasings import CHOICES, KINDS, NUMBERS, PHRASINGS, PLURALS, VERBS, WHEN, phrasings_of
from onlooker.train.world.tracks import frame_times, place

STILL_KINDS = ("color", "shape", "count", "relation", "exists")
_COLORS = tuple(COLORS)
_CLEAR = 0.1  # of the side: two things stand left and right of each other from this distance on
_PROBES = frame_times(9)
# Kinds that others easily give away, or that few scenes have, tend to come first in a dialogue, or they would be rare.
_EARLY = {"color": 0.4, "shape": 0.4, "exists": 0.4, "direction": 0.4, "order": 0.3}


@dataclass(frozen=True)
class Question:
    """A question and its only right answer."""

    kind: str
    text: str
    answer: str
    phrasing: int  # number among the phrasings of its kind
    names: tuple[str, ...] = ()  # what its words name, whatever the phrasing: ("red circle", "blue star")
    about: tuple[int, ...] = ()  # things of the scene


@dataclass(frozen=True)
class _Fact:
    """A question before it has words."""

    slots: dict[str, str]
    answer: str
    about: tuple[int, ...] = ()  # things; a dialogue asks each kind once about them, counts have numbers of their own
    tells: frozenset[tuple[str, int]] = frozenset()  # what the words of the question give away
    asks: frozenset[tuple[str, int]] = frozenset()  # what they ask for


_Maker = Callable[[Scene, random.Random], "_Fact | None"]


def kinds_for(scene: Scene) -> tuple[str, ...]:
    """The kinds of questions that a clip, or a still, can be asked."""
    return STILL_KINDS if scene.is_still else KINDS


def ask(scene: Scene, kind: str, rng: random.Random, phrasings: str = "train") -> Question | None:
    """One question of a kind; None where this scene has none, such as an order of events with one event.

    Args:
        rng: chooses what is asked about, and the phrasing.
        phrasings: "train", "held_out" or "all".
    """
    fact = _MAKERS[kind](scene, rng)
    return None if fact is None else _word(kind, fact, rng, phrasings)


def dialogue(
    scene: Scene,
    rng: random.Random,
    turns: int = 8,
    *,
    phrasings: str = "train",
    kinds: Sequence[str] | None = None,
) -> list[Question]:
    """Several different questions about one scene, as the turns of a conversation.

    No question asks what the words of an earlier one gave away ("which way does the red circle move?" tells that there
    is a red circle), as long as there are others.
    """
    allowed = [kind for kind in kinds_for(scene) if kinds is None or kind in kinds]
    asked: list[Question] = []
    seen: set[tuple[str, frozenset[int]]] = set()
    told: set[tuple[str, int]] = set()
    for is_strict in (True, False):
        for _ in range(3):
            for kind in sorted(allowed, key=lambda kind: rng.random() - _EARLY.get(kind, 0.0)):
                fact = _MAKERS[kind](scene, rng) if len(asked) < turns else None
                if fact is None or (is_strict and fact.asks & told):
                    continue
                topic = kind, frozenset(fact.about)
                if topic not in seen:
                    seen.add(topic)
                    told |= fact.tells | fact.asks
                    asked.append(_word(kind, fact, rng, phrasings))
    return asked


def _word(kind: str, fact: _Fact, rng: random.Random, phrasings: str) -> Question:
    number = rng.choice(phrasings_of(kind, phrasings))
    text = PHRASINGS[kind][number].format_map(fact.slots)
    return Question(kind, text, fact.answer, number, tuple(fact.slots.values()), tuple(n for n in fact.about if n >= 0))


def _named(number: int) -> frozenset[tuple[str, int]]:
    return frozenset({("color", number), ("shape", number)})


def _about_one(scene: Scene, rng: random.Random, asked: str) -> _Fact | None:
    """Ask for the colour or the shape of a thing that is known by something else."""
    other = "shape" if asked == "color" else "color"
    number = rng.randrange(len(scene.things))
    thing = scene.things[number]
    answer = getattr(thing, asked)
    known = getattr(thing, other)
    asks = frozenset({(asked, number)})
    ways: list[tuple[str, frozenset[tuple[str, int]]]] = []
    if sum(getattr(each, other) == known for each in scene.things) == 1:
        ways.append((f"the {known}" if other == "shape" else f"the {known} thing", frozenset({(other, number)})))
    if not scene.is_still and sum(each.motion == thing.motion for each in scene.things) == 1:
        ways.append((f"the thing that {VERBS[thing.motion][0]}", frozenset({("motion", number)})))
    if len(scene.things) == 1:
        ways.append(("the thing", frozenset()))
    if not ways:
        return None
    reference, tells = rng.choice(ways)
    return _Fact({"ref": reference}, answer, (number,), tells, asks)


def _color(scene: Scene, rng: random.Random) -> _Fact | None:
    return _about_one(scene, rng, "color")


def _shape(scene: Scene, rng: random.Random) -> _Fact | None:
    return _about_one(scene, rng, "shape")


def _count(scene: Scene, rng: random.Random) -> _Fact | None:
    everything = frozenset({("count", -1)})
    if rng.random() < 0.5:
        return _Fact({"what": "things"}, NUMBERS[len(scene.things)], (-2,), tells=everything, asks=everything)
    by_color = rng.random() < 0.5
    kinds = [thing.color if by_color else thing.shape for thing in scene.things]
    present = sorted(set(kinds))
    others = [kind for kind in (_COLORS if by_color else SHAPES) if kind not in present]
    several = [kind for kind in present if kinds.count(kind) > 1]
    pools = [pool for pool in (others, present, several, several) if pool]  # more than one are rare: ask for them
    chosen = rng.choice(rng.choice(pools))
    what = f"{chosen} things" if by_color else PLURALS[chosen]
    asks = frozenset(
        {("color" if by_color else "shape", number) for number, kind in enumerate(kinds) if kind == chosen}
    )
    return _Fact({"what": what}, NUMBERS[kinds.count(chosen)], (-1,), tells=asks, asks=asks)


def _direction(scene: Scene, rng: random.Random) -> _Fact | None:
    moving = [number for number, thing in enumerate(scene.things) if thing.motion in DIRECTIONS]
    if not moving:
        return None
    number = rng.choice(moving)
    asks = frozenset({("motion", number)})
    return _Fact({"thing": scene.things[number].name}, scene.things[number].motion, (number,), _named(number), asks)


def _action(scene: Scene, rng: random.Random) -> _Fact | None:
    number = rng.randrange(len(scene.things))
    thing = scene.things[number]
    asks = frozenset({("motion", number)})
    return _Fact({"thing": thing.name}, VERBS[thing.motion][0], (number,), _named(number), asks)


def _order(scene: Scene, rng: random.Random) -> _Fact | None:
    numbers = [number for number, thing in enumerate(scene.things) if thing.acts and thing.timing != "whole"]
    rng.shuffle(numbers)
    for one in numbers:
        for two in numbers:
            first, second = scene.things[one], scene.things[two]
            if first.timing != second.timing:
                answer = first if first.begin < second.begin else second
                slots = {"first": first.name, "second": second.name}
                asks = frozenset({("time", one), ("time", two)})
                return _Fact(slots, answer.name, (one, two), _named(one) | _named(two), asks)
    return None


def _relation(scene: Scene, rng: random.Random) -> _Fact | None:
    if len(scene.things) < 2:
        return None
    one, two = rng.sample(range(len(scene.things)), 2)
    tracks = place((scene.things[one], scene.things[two]), _PROBES)
    both = tracks[0, :, 4] * tracks[1, :, 4] > 0
    if not both.any():
        return None
    gaps = (tracks[0] - tracks[1])[both]
    clear = [(axis, gaps[:, column]) for column, axis in enumerate("xy") if _is_clear(gaps[:, column])]
    if not clear:
        return None
    axis, gap = rng.choice(clear)
    choice, (less, more) = CHOICES[axis]
    slots = {"first": scene.things[one].name, "second": scene.things[two].name, "choice": choice}
    asks = frozenset({(axis, one * 4 + two), (axis, two * 4 + one)})
    return _Fact(slots, less if gap[0] < 0 else more, (one, two), _named(one) | _named(two), asks)


def _is_clear(gap: np.ndarray) -> bool:
    """Whether one thing is on the same side of the other all the time."""
    return bool((gap > _CLEAR).all() or (gap < -_CLEAR).all())


def _when(scene: Scene, rng: random.Random) -> _Fact | None:
    acting = [number for number, thing in enumerate(scene.things) if thing.acts]
    if not acting:
        return None
    number = rng.choice(acting)
    thing = scene.things[number]
    asks = frozenset({("time", number)})
    return _Fact({"thing": thing.name}, WHEN[thing.timing or "whole"], (number,), _named(number), asks)


def _exists(scene: Scene, rng: random.Random) -> _Fact | None:
    number = rng.randrange(len(scene.things))
    thing = scene.things[number]
    if rng.random() < 0.5:
        return _Fact({"thing": thing.name}, "yes", (number,), _named(number), _named(number))
    colors, shapes = _near(scene, number)
    for _ in range(12):  # only a colour, or only a shape, is wrong, often one that another thing has
        color, shape = (rng.choice(colors), thing.shape) if rng.random() < 0.5 else (thing.color, rng.choice(shapes))
        if all((color, shape) != (each.color, each.shape) for each in scene.things):
            # Asked of things that are not known yet, as the other half is, or most answers in a dialogue would be no.
            return _Fact({"thing": f"{color} {shape}"}, "no", (number,), frozenset(), _named(number))
    return None


def _near(scene: Scene, number: int) -> tuple[list[str], list[str]]:
    """Colours and shapes to take wrong ones from: half of them what other things have."""
    others = [thing for place, thing in enumerate(scene.things) if place != number]
    repeat = 1 + 6 // max(1, len(others))
    colors = [*_COLORS, *(thing.color for thing in others for _ in range(repeat))]
    return colors, [*SHAPES, *(thing.shape for thing in others for _ in range(repeat))]


def _does(scene: Scene, rng: random.Random) -> _Fact | None:
    number = rng.randrange(len(scene.things))
    thing = scene.things[number]
    motion = thing.motion if rng.random() < 0.5 else wrong_motion(scene, thing, rng)
    slots = {"thing": thing.name, "base": VERBS[motion][1], "verb": VERBS[motion][0]}
    asks = frozenset({("motion", number)})
    return _Fact(slots, "yes" if motion == thing.motion else "no", (number,), _named(number), asks)


def wrong_motion(scene: Scene, thing: Thing, rng: random.Random) -> str:
    """A motion that a thing does not make: often its own backwards, or another thing's.

    What is held out is never named where it would always be wrong.
    """
    while True:
        if rng.random() < 0.5:
            motion = BACKWARDS[thing.motion]
        else:
            motion = rng.choice([*MOTIONS, *(each.motion for each in scene.things for _ in range(2))])
        unfair = scene.split != "combos" and is_held_out(thing.color, thing.shape, motion)
        if motion != thing.motion and is_possible(thing.shape, motion) and not unfair:
            return motion


_MAKERS: dict[str, _Maker] = {
    "color": _color,
    "shape": _shape,
    "count": _count,
    "direction": _direction,
    "action": _action,
    "order": _order,
    "relation": _relation,
    "when": _when,
    "exists": _exists,
    "does": _does,
}
