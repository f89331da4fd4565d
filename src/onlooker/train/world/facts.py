"""The facts of a clip or a still: which things are in it, what they do, and when; all else is derived from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (228, 30, 36),
    "orange": (255, 142, 10),
    "yellow": (252, 236, 50),
    "green": (28, 186, 56),
    "cyan": (50, 222, 232),
    "blue": (44, 84, 255),
    "pink": (250, 110, 205),
    "white": (248, 248, 248),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
MOTIONS = ("left", "right", "up", "down", "turn", "grow", "shrink", "bounce", "appear", "vanish", "still")
DIRECTIONS = MOTIONS[:4]
#: what a motion is when the clip runs backwards
BACKWARDS = {motion: motion for motion in MOTIONS} | {
    one: other
    for pair in (("left", "right"), ("up", "down"), ("grow", "shrink"), ("appear", "vanish"))
    for one, other in (pair, pair[::-1])
}
TIMINGS = ("start", "middle", "end", "whole")  # the third of the clip in which a thing acts, or all of it
SPLITS = ("train", "val", "test", "combos")

_ROUND = ("circle", "ring")  # nobody sees them turn
# Held out together, so that colour and shape never tell a direction, nor one motion from the same one backwards.
_GROUPS = (
    ("left", "right", "up", "down"),
    ("turn",),
    ("grow", "shrink"),
    ("bounce",),
    ("appear", "vanish"),
    ("still",),
)
_GROUP_OF = {motion: number for number, group in enumerate(_GROUPS) for motion in group}
_COLOR_NUMBER = {color: number for number, color in enumerate(COLORS)}


@dataclass(frozen=True)
class Thing:
    """One shape.  Places and sizes are fractions of the picture's side, times fractions of the clip."""

    color: str
    shape: str
    motion: str
    timing: str | None  # one of TIMINGS; None for a thing that stays still
    begin: float  # it acts from here ...
    end: float  # ... to here; appearing and vanishing take no time
    x: float  # middle of its path
    y: float
    radius: float
    angle: float  # radians, clockwise on the screen
    travel: float = 0.0  # how far it moves or jumps
    turn: float = 0.0  # radians that it turns by
    shade: float = 1.0
    shown: tuple[float, float] = (-1.0, 2.0)  # the stretch of the clip in which it is there at all

    @property
    def name(self) -> str:
        """As texts call it: "red circle"."""
        return f"{self.color} {self.shape}"

    @property
    def acts(self) -> bool:
        """Whether it does anything."""
        return self.motion != "still"

    def reversed(self) -> Thing:
        """The same thing in the clip played backwards."""
        timing = {"start": "end", "end": "start"}.get(self.timing or "", self.timing)
        return replace(
            self,
            motion=BACKWARDS[self.motion],
            timing=timing,
            begin=1.0 - self.end,
            end=1.0 - self.begin,
            turn=-self.turn,
            shown=(1.0 - self.shown[1], 1.0 - self.shown[0]),
        )


@dataclass(frozen=True)
class Stage:
    """What things stand before, and what disturbs the view."""

    texture: str = "flat"  # one of `background.TEXTURES`
    base: tuple[float, float, float] = (60.0, 60.0, 60.0)  # RGB
    contrast: float = 0.0  # of the texture, in steps of 255
    frequency: float = 4.0  # waves over the picture
    direction: float = 0.0  # radians
    noise: float = 0.0  # standard deviation in steps of 255
    jitter: float = 0.0  # by which the camera shakes, a fraction of the side
    post: tuple[float, float] | None = None  # (middle, width) of a post that stands in front of everything


@dataclass(frozen=True)
class Scene:
    """The facts of one clip or still."""

    seed: int
    split: str
    things: tuple[Thing, ...]  # those behind come first
    stage: Stage = field(default_factory=Stage)
    is_still: bool = False
    seconds: float = 4.0

    @property
    def id(self) -> str:
        """A name that no other scene of the same kind has."""
        return f"{self.split}-{'still' if self.is_still else 'clip'}-{self.seed:08d}"

    def reversed(self) -> Scene:
        """The clip played backwards."""
        return replace(self, things=tuple(thing.reversed() for thing in self.things))

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Scene:
        """Read what `to_dict` gave, also after JSON made lists of its tuples."""
        things = tuple(Thing(**{**thing, "shown": tuple(thing["shown"])}) for thing in record["things"])
        stage = dict(record["stage"], base=tuple(record["stage"]["base"]))
        stage["post"] = None if stage["post"] is None else tuple(stage["post"])
        return cls(**{**record, "things": things, "stage": Stage(**stage)})


def is_possible(shape: str, motion: str) -> bool:
    """Whether such a motion can be seen: what is round cannot be seen to turn."""
    return motion != "turn" or shape not in _ROUND


def is_held_out(color: str, shape: str, motion: str) -> bool:
    """Whether this combination is kept out of every split but "combos".

    Each pair of colour and shape, colour and motion, shape and motion is in training; only some triples are not.
    """
    return (3 * _COLOR_NUMBER[color] + 5 * SHAPES.index(shape) + _GROUP_OF[motion]) % 8 == 0
