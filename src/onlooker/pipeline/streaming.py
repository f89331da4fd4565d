"""An answer in pieces: what of the generated text can be shown already, while the rest is being written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from onlooker.generate.stream import IteratorStreamer
from onlooker.pipeline.records import Answer, AnswerStream
from onlooker.text.stream import StreamDecoder


class Trimmer:
    """Lets text through without blanks around it, and nothing from the first stop text on."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = [text for text in stop if text]
        self._held = ""  # may yet turn out to be blanks at the end, or the beginning of a stop text
        self._has_begun = False
        self._has_ended = False

    def put(self, text: str) -> str:
        """Take a piece; give what can be shown for certain."""
        if self._has_ended:
            return ""
        self._held += text
        found = [place for place in map(self._held.find, self._stop) if place >= 0]
        if found:
            self._held, self._has_ended = self._held[: min(found)], True
        overlap = max((_beginning(self._held, stop) for stop in self._stop), default=0)
        certain = self._held[: len(self._held) - (0 if found else overlap)].rstrip()
        self._held = self._held[len(certain) :]
        shown = certain if self._has_begun else certain.lstrip()
        self._has_begun = self._has_begun or bool(shown)
        return shown

    def end(self) -> str:
        """What was held back and is text after all."""
        rest, self._held = "" if self._has_ended else self._held.rstrip(), ""
        return rest if self._has_begun else rest.lstrip()


def _beginning(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


class _AnswerDecoder:
    """Ids of an answer in, text to be shown out: no end token, no blanks around it, no stop text."""

    def __init__(self, tokenizer: Any, ends: set[int], stop: Sequence[str]) -> None:
        self._decoder, self._trimmer, self._ends = StreamDecoder(tokenizer), Trimmer(stop), ends

    def put(self, ids: list[int]) -> str:
        return self._trimmer.put(self._decoder.put([token for token in ids if token not in self._ends]))

    def end(self) -> str:
        return self._trimmer.put(self._decoder.end()) + self._trimmer.end()


def stream_answer(run: Callable[..., Answer], tokenizer: Any, ends: set[int], stop: Sequence[str]) -> AnswerStream:
    """Start generating in a thread and give the answer as it comes.

    Args:
        run: generates one answer; called with `streamer` and `stopping_criteria`.
        ends: tokens that end an answer and are no text.
        stop: texts that end an answer.
    """
    streamer = IteratorStreamer(_AnswerDecoder(tokenizer, ends, stop))
    stopped = threading.Event()
    answers: list[Answer] = []

    def work() -> None:
        answers.append(run(streamer=streamer, stopping_criteria=[lambda *_, **__: stopped.is_set()]))

    thread = streamer.start(work)

    def finish() -> Answer:
        thread.join()
        if not answers:
            raise RuntimeError("there is no answer: generation ended with the error that the pieces raised")
        return answers[0]

    return AnswerStream(iter(streamer), finish, stopped.set)
