"""What the pipeline hands back: answers with the frames they come from, matches and ranked candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onlooker.pipeline.times import clock

if TYPE_CHECKING:
    from onlooker.media import Frames


@dataclass(frozen=True)
class UsedFrames:
    """The frames of a clip that the model looked at.

    Attributes:
        indices: their numbers in the clip, from 0.
        seconds: when each is shown, counted from the clip's first frame; nan where nothing tells.
    """

    indices: tuple[int, ...]
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, frames: Frames) -> UsedFrames:
        return cls(tuple(frames.indices), tuple(frames.seconds))

    def to_dict(self) -> dict[str, Any]:
        """With None for a time that is not known, which JSON has no number for."""
        seconds = [None if math.isnan(second) else round(second, 6) for second in self.seconds]
        return {"indices": list(self.indices), "seconds": seconds}


@dataclass(frozen=True)
class Answer:
    """New text about a picture or a clip; `str(answer)` is the text.

    Attributes:
        text: what the model wrote, without the prompt and without blanks around it.
        finish_reason: "stop" (the model ended it, or a stop text was met), "length" (cut at max_new_tokens),
            "time" (cut at max_time) or "cancelled" (its stream was closed, or a stopping criterion said so).
        num_tokens: tokens generated, the end token included when there is one.
        logprob: sum of the log-probabilities of those tokens under the model itself, before temperature, penalties and
            other filters. Divide by num_tokens to compare answers of unequal length.
        frames: of the clip that were looked at, the last one's where there are several; None for a picture, and for an
            answer that was put together from those of windows.
        windows: the answers of the windows that this one was made of.
    """

    text: str
    finish_reason: str
    num_tokens: int
    logprob: float
    frames: UsedFrames | None = None
    windows: tuple[WindowAnswer, ...] | None = None

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("text", "finish_reason", "num_tokens", "logprob")}
        values["frames"] = None if self.frames is None else self.frames.to_dict()
        if self.windows is not None:
            values["windows"] = [window.to_dict() for window in self.windows]
        return values


@dataclass(frozen=True)
class WindowAnswer:
    """The answer of one part of a long clip, from `start` to `end` seconds."""

    start: float
    end: float
    answer: Answer

    def __str__(self) -> str:
        start, end = (clock(each, 0 if abs(each - round(each)) < 0.05 else 1) for each in (self.start, self.end))
        return f"[{start}-{end}] {self.answer}"

    def to_dict(self) -> dict[str, Any]:
        return {"start": round(self.start, 6), "end": round(self.end, 6), **self.answer.to_dict()}


@dataclass(frozen=True)
class Match:
    """How well one text fits one image, judged twice.

    Attributes:
        text: the text.
        probability: of the image-text-matching head (ITM): softmax over its two classes for this pair alone.
        similarity: of the contrastive heads (ITC): cosine of the text and the best query token, -1 to 1, as it is.
        share: softmax of the similarities over the texts given together, without a temperature (none is published), so
            shares are close to each other; None when only one text was given, where it would always be 1.
    """

    text: str
    probability: float
    similarity: float
    share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Ranked:
    """One candidate answer and how likely the model finds it.

    Attributes:
        text: the candidate.
        logprob: sum of the log-probabilities of its tokens, the end token included, after the image and the question.
        num_tokens: how many tokens that is.
        probability: softmax of the log-probabilities over the candidates given together.
    """

    text: str
    logprob: float
    num_tokens: int
    probability: float

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def softmax(values: list[float]) -> list[float]:
    """Softmax of a few numbers, safe for large ones."""
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    return [power / sum(powers) for power in powers]


class AnswerStream(Iterator[str]):
    """The pieces of an answer as they come; afterwards the whole answer is at `.answer`.

    `close()` (or the end of a `with` block) stops the model after its present token.
    """

    def __init__(self, pieces: Iterator[str], finish: Callable[[], Answer], stop: Callable[[], None]) -> None:
        self._pieces, self._finish, self._stop = pieces, finish, stop

    def __next__(self) -> str:
        return next(self._pieces)

    @property
    def answer(self) -> Answer:
        """The whole answer; pieces that were not taken yet are waited for and dropped."""
        for _ in self._pieces:
            pass
        return self._finish()

    def close(self) -> None:
        self._stop()

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
