"""Long clips: an answer for each window in turn, and one answer made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from onlooker.media import Frames
from onlooker.pipeline.looking import Look
from onlooker.pipeline.records import Answer, WindowAnswer

_AUXILIARIES = (
    *("is", "are", "am", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would"),
    *("should", "shall", "may", "might", "must", "isn't", "aren't", "wasn't", "weren't", "doesn't", "don't", "didn't"),
    *("hasn't", "haven't", "hadn't", "can't", "couldn't", "won't", "wouldn't"),
)
_MERGE = (
    "Several parts of one video were looked at one after the other. The answers to the question {question!r} were:\n"
    "{answers}\n"
    "Answer the question about the whole video: {question}"
)


def is_yes_no(question: str) -> bool:
    """Whether a question wants yes or no: it begins with an auxiliary verb and names no choice of its own."""
    words = re.findall(r"[\w']+", question.lower().replace("\u2019", "'"))
    return bool(words) and words[0] in _AUXILIARIES and "or" not in words


def answer_windows(
    windows: Iterable[tuple[Frames, Look]], answer: Callable[[Look], Answer]
) -> Iterator[tuple[WindowAnswer, Frames]]:
    """Answer about one window after the other."""
    for frames, look in windows:
        yield WindowAnswer(frames.start or 0.0, frames.end or 0.0, answer(look)), frames
        del frames, look  # else they would live until the next ones are there


def likeliest(windows: Sequence[WindowAnswer], yes: str | None = None) -> Answer:
    """Of a closed question: the answer of the window that is surest of it.

    Args:
        yes: of a question for yes or no, the answer that one window gives for the whole clip: what happens in one part
            happens, however sure the others are that it does not happen in theirs.
    """
    saying_yes = [window for window in windows if window.answer.text == yes]
    best = max(saying_yes or windows, key=lambda window: window.answer.logprob)
    return replace(best.answer, windows=tuple(windows))


def merge(
    question: str,
    windows: Sequence[WindowAnswer],
    write: Callable[[str], Answer],
    fits: Callable[[str], bool],
) -> Answer:
    """Of an open question: what the language model makes of the answers of all windows, given to it as text.

    Args:
        write: answers a text.
        fits: whether a text is short enough for the language model; where all answers together are not, neighbours are
            merged first.
    """
    level = list(windows)
    while len(level) > 1:
        merged = []
        for group in _groups(level, lambda part: fits(_request(question, part))):
            answer = group[0].answer if len(group) == 1 else write(_request(question, group))
            merged.append(WindowAnswer(group[0].start, group[-1].end, answer))
        level = merged
    return replace(level[0].answer, windows=tuple(windows))


def _request(question: str, windows: Sequence[WindowAnswer]) -> str:
    return _MERGE.format(question=question, answers="\n".join(map(str, windows)))


def _groups(
    windows: Sequence[WindowAnswer], fits: Callable[[Sequence[WindowAnswer]], bool]
) -> list[list[WindowAnswer]]:
    """Neighbours, as many together as fit, and two at the least: each round has to leave fewer."""
    groups: list[list[WindowAnswer]] = []
    for window in windows:
        if groups and (len(groups[-1]) < 2 or fits([*groups[-1], window])):
            groups[-1].append(window)
        else:
            groups.append([window])
    return groups
