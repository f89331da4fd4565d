"""An answer in pieces: generation runs in a thread of its own and its words are handed over as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


class _Words:
    """The streamer that generation is given: ids in, text into a queue."""

    def __init__(self, tokenizer: Any, ends: set[int], stop: Sequence[str], hand_over: Callable[[str], None]) -> None:
        self._decoder, self._trimmer = StreamDecoder(tokenizer), Trimmer(stop)
        self._ends, self._hand_over = ends, hand_over
        self._is_prompt = True

    def put(self, token_ids: Any) -> None:
        if self._is_prompt:  # what comes first is the prompt
            self._is_prompt = False
            return
        ids = [token for token in token_ids.flatten().tolist() if token not in self._ends]
        self._hand_over(self._trimmer.put(self._decoder.put(ids)))

    def end(self) -> None:
        self._hand_over(self._trimmer.put(self._decoder.end()) + self._trimmer.end())


def stream_answer(run: Callable[..., Answer], tokenizer: Any, ends: set[int], stop: Sequence[str]) -> AnswerStream:
    """Start generating and give the answer as it comes.

    Args:
        run: generates one answer; called with `streamer` and `stopping_criteria`.
        ends: tokens that end an answer and are no text.
        stop: texts that end an answer.
    """
    pieces: queue.Queue[str | None] = queue.Queue()
    stopped = threading.Event()
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            words = _Words(tokenizer, ends, stop, pieces.put)
            outcome["answer"] = run(streamer=words, stopping_criteria=[lambda *_, **__: stopped.is_set()])
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits for the words
            outcome["error"] = error
        finally:
            pieces.put(None)

    def read() -> Iterator[str]:
        while (piece := pieces.get()) is not None:
            if piece:
                yield piece
        if "error" in outcome:
            raise outcome["error"]

    def finish() -> Answer:
        if "answer" not in outcome:
            raise RuntimeError("the stream was closed before its answer was whole") from outcome.get("error")
        return outcome["answer"]

    threading.Thread(target=work, name="onlooker-stream", daemon=True).start()
    return AnswerStream(read(), finish, stopped.set)
