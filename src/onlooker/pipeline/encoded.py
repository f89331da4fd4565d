"""Pictures and clips as a model sees them, made once and asked about often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from onlooker.media import Frames
from onlooker.pipeline.media import Medium, kind_of
from onlooker.pipeline.records import UsedFrames


@dataclass(frozen=True, eq=False)
class Encoded:
    """One picture or clip after the vision tower, to be given wherever one is taken.

    Attributes:
        features: visual tokens of the language model [n, D] (BLIP-2, Video-LLaVA), or patch features, [F, 1+P, D] of
            an InstructBLIP, whose Q-Former has yet to read the question, and [1+P, D] of a matching checkpoint.
        image_size: width and height of what it was made from.
        kind: "image" or "video".
        num_tokens: places that it takes in a prompt.
        frames: those of a clip that were looked at; None for a picture.
    """

    features: Tensor
    image_size: tuple[int, int]
    owner: object  # of the `Onlooker` that made it: features of another model would mean nothing
    kind: str
    num_tokens: int
    frames: UsedFrames | None = None

    @classmethod
    def of(cls, medium: Medium, features: Tensor, num_tokens: int, owner: object) -> Encoded:
        height, width = medium.shape[-3:-1]
        frames = UsedFrames.of(medium) if isinstance(medium, Frames) else None
        return cls(features, (width, height), owner, kind_of(medium), num_tokens, frames)

    def __repr__(self) -> str:
        width, height = self.image_size
        frames = "" if self.frames is None else f"{len(self.frames.indices)} frames of "
        return f"Encoded({frames}{width}x{height} pixels -> {list(self.features.shape)} {self.features.dtype})"


@dataclass(frozen=True)
class Row:
    """What is given to the model for one answer.

    Attributes:
        media: in the order of their places in the text.
        text: the prompt.
        instruction: what a Q-Former that reads is told.
    """

    media: tuple[Encoded, ...]
    text: str
    instruction: str = ""


def is_many(value: Any) -> bool:
    """Whether an argument is a list of things rather than one thing."""
    return isinstance(value, (list, tuple))
