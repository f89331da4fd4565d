"""A conversation about media: what was said stays, and the next answer is given with it in view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from onlooker.pipeline.encoded import Encoded, Row, Thread, is_many
from onlooker.pipeline.records import Answer, AnswerStream

if TYPE_CHECKING:
    from onlooker.pipeline.onlooker import Onlooker


class Chat:
    """Questions and answers in turn, written with the chat template of the checkpoint.

    Media are given with the question that they belong to, and are encoded once for the conversation. Video-LLaVA takes
    any number, pictures and clips mixed; the other families take one in a conversation.

    Args:
        onlooker: whose model answers.
        media: for the first question: one medium, or a list of them.
        system: a sentence in front of everything, for templates that have a place for one.
        clip: num_frames, sampling, start, end and limits of clips, as for `Onlooker.ask`.

    Raises:
        FileNotFoundError, MediaError: a medium that cannot be read.
        ValueError: several media, and the family takes one.
    """

    def __init__(self, onlooker: Onlooker, media: Any = None, *, system: str | None = None, **clip: Any) -> None:
        self._onlooker = onlooker
        self.clip = clip
        self._system = system
        self._open: AnswerStream | None = None
        self._turns: list[tuple[list[Encoded], str, Answer]] = []
        self._waiting: list[Encoded] = []
        self._thread = Thread()
        if media is not None:
            self.show(media)

    @property
    def history(self) -> list[tuple[str, Answer]]:
        """Questions and answers so far."""
        self._finish()
        return [(question, answer) for _, question, answer in self._turns]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far as a chat template takes it; media as `Encoded`."""
        self._finish()
        found: list[dict[str, Any]] = [{"role": "system", "content": self._system}] if self._system else []
        for media, question, answer in self._turns:
            found += [_user(media, question), {"role": "assistant", "content": [{"type": "text", "text": answer.text}]}]
        return found

    def show(self, media: Any, **clip: Any) -> None:
        """Give media (one or a list) that the next question is about; `clip` as for `Onlooker.ask`.

        Raises:
            FileNotFoundError, MediaError: one that cannot be read.
            ValueError: more than the family takes in one conversation.
        """
        added = list(media) if is_many(media) else [media]
        present = [seen for turn, _, _ in self._turns for seen in turn] + self._waiting
        if len(present) + len(added) > 1 and not self._onlooker.takes_several:
            raise ValueError(
                f"{self._onlooker.family} takes one picture or clip in a conversation; call reset() to talk about "
                f"another"
            )
        options = {**self.clip, **clip}
        self._waiting += [
            self._onlooker.encode(each, **({} if isinstance(each, Encoded) else options)) for each in added
        ]

    def ask(self, question: str, media: Any = None, *, stream: bool = False, **options: Any) -> Any:
        """Ask the next question.

        Args:
            media: what it is about, one medium or a list, beside all that was shown before.
            stream: give an iterator over the pieces of the answer instead; its `.answer` is the whole.
            options: of generation, as for `Onlooker.caption`.

        Returns:
            An `Answer`, or with `stream` an `AnswerStream`.

        Raises:
            ValueError: more media than the family takes, options that do not fit, or a conversation that has grown
                longer than the language model can read.
        """
        self._finish()
        if media is not None:
            self.show(media)
        waiting = list(self._waiting)
        seen = [each for turn, _, _ in self._turns for each in turn] + waiting
        text = self._onlooker.chat_text([*self.messages, _user(waiting, question)])
        row = Row(tuple(seen), text, question, self._thread)

        def keep(answer: Answer) -> None:
            self._turns.append((waiting, question, answer))
            self._waiting = []
            self._open = None

        if not stream:
            answer = self._onlooker.answer_row(row, **options)
            keep(answer)
            return answer

        def drop() -> None:
            self._open = None

        self._open = _Kept(self._onlooker.answer_row(row, stream=True, **options), keep, drop)
        return self._open

    def reset(self) -> None:
        """Forget everything that was shown and said."""
        self._finish()
        self._turns, self._waiting, self._thread = [], [], Thread()

    def _finish(self) -> None:
        """Wait for an answer that is still being written: it is part of the conversation."""
        if self._open is not None:
            open_stream, self._open = self._open, None
            _ = open_stream.answer

    def __len__(self) -> int:
        self._finish()
        return len(self._turns)

    def __repr__(self) -> str:
        return f"Chat({self._onlooker!r}, {len(self._turns)} turns)"


class _Kept(AnswerStream):
    """A stream whose answer is handed over when it is whole."""

    def __init__(self, stream: AnswerStream, keep: Callable[[Answer], None], drop: Callable[[], None]) -> None:
        self._stream, self._keep, self._drop = stream, keep, drop
        super().__init__(self._watched(), lambda: stream.answer, stream.close)

    def _watched(self) -> Iterator[str]:
        try:
            yield from self._stream
        except BaseException:
            self._drop()
            raise
        self._keep(self._stream.answer)


def _user(media: list[Encoded], question: str) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": seen.kind, seen.kind: seen} for seen in media]
    return {"role": "user", "content": [*parts, {"type": "text", "text": question}]}
