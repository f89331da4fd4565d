"""What can be answered without looking: baselines, and clips from which something has been taken away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from onlooker.train.world.questions import Question

ABLATIONS = ("blank", "one_frame", "shuffled")


def ablate(frames: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """A clip [F, h, w, 3] without what there is to see, without time, or without its order.

    One frame is a random one, because the first and the last one tell which way things can go from there.

    Raises:
        ValueError: an unknown ablation.
    """
    if how == "blank":
        return np.full_like(frames, 128)
    if how == "one_frame":
        return np.repeat(frames[[int(rng.integers(len(frames)))]], len(frames), 0)
    if how == "shuffled":
        return frames[rng.permutation(len(frames))]
    raise ValueError(f"ablation {how!r} is unknown; there are {', '.join(ABLATIONS)}")


def majority(learnt: Iterable[Question], asked: Sequence[Question]) -> float:
    """Part of questions answered rightly by the most frequent answer to their kind."""
    return _guess(learnt, asked, use_names=False)


def question_only(learnt: Iterable[Question], asked: Sequence[Question]) -> float:
    """Part of questions answered rightly by the most frequent answer to what their words name.

    Where nobody has asked about these things, the most frequent answer to the kind is taken.
    """
    return _guess(learnt, asked, use_names=True)


def _guess(learnt: Iterable[Question], asked: Sequence[Question], *, use_names: bool) -> float:
    counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for question in learnt:
        for key in {(question.kind,), (question.kind, *question.names)}:
            counts[key][_answer(question)] += 1
    right = 0
    for question in asked:
        named = counts.get((question.kind, *question.names)) if use_names else None
        known = named or counts.get((question.kind,))
        right += known is not None and known.most_common(1)[0][0] == _answer(question)
    return right / max(1, len(asked))


def _answer(question: Question) -> str:
    """The answer; for one of two things that the question names, which of them."""
    return str(question.names.index(question.answer)) if question.kind == "order" else question.answer
