"""Pictures and clips as a model sees them, made once and asked about often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from onlooker.pipeline.records import UsedFrames
from onlooker.reuse.prefixes import Items


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
        digest: what it is, by content; empty for what is seen in passing, of which nothing is kept.
    """

    features: Tensor
    image_size: tuple[int, int]
    owner: object  # of the `Onlooker` that made it: features of another model would mean nothing
    kind: str
    num_tokens: int
    frames: UsedFrames | None = None
    digest: str = ""

    def __repr__(self) -> str:
        width, height = self.image_size
        frames = "" if self.frames is None else f"{len(self.frames.indices)} frames of "
        return f"Encoded({frames}{width}x{height} pixels -> {list(self.features.shape)} {self.features.dtype})"


@dataclass
class Thread:
    """What is kept of a conversation so far, for its next turn to go on from: all that was run of the last one."""

    items: Items = ()


@dataclass(frozen=True)
class Row:
    """What is given to the model for one answer.

    Attributes:
        media: in the order of their places in the text.
        text: the prompt.
        instruction: what a Q-Former that reads is told.
        thread: of a conversation, which goes on from this prompt and its answer.
    """

    media: tuple[Encoded, ...]
    text: str
    instruction: str = ""
    thread: Thread | None = None


def is_many(value: Any) -> bool:
    """Whether an argument is a list of things rather than one thing."""
    return isinstance(value, (list, tuple))
