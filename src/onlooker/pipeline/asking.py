"""From media and texts to rows, and from rows to answers, some at a time: what stands under `Onlooker`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from onlooker.errors import OnlookerError
from onlooker.media import Frames
from onlooker.pipeline.answering import end_tokens, frames_of, write
from onlooker.pipeline.encoded import Encoded, Row, is_many
from onlooker.pipeline.families import encode
from onlooker.pipeline.media import ClipOptions, Medium
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.ranking import rank_candidates
from onlooker.pipeline.records import Answer, WindowAnswer
from onlooker.pipeline.streaming import stream_answer
from onlooker.pipeline.windows import answer_windows, is_yes_no, likeliest, merge

MAX_NEW_TOKENS = 50

MakeRow = Callable[[Encoded, Any], Row]
OnWindow = Callable[[WindowAnswer, Frames], None]


class Asker:
    """Sees media once each, and answers rows in batches."""

    def __init__(self, model: Any, writer: PromptWriter, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size
        self._writer = writer
        self._token = object()  # what marks media that this one encoded

    # -- media ----------------------------------------------------------------------------------------------------

    def _see(self, media: Sequence[Any], clip: ClipOptions, errors: str = "raise") -> list[Any]:
        """Encode media, each different object once; those encoded before by the same owner pass through.

        Raises:
            ValueError: an `Encoded` of another model, or frames asked for of one.
            FileNotFoundError, MediaError: a medium that cannot be read; with errors="return" it comes back instead.
        """
        ready: dict[int, Any] = {}
        pending: dict[int, Medium] = {}

        def run() -> None:
            with torch.no_grad():
                found = encode(
                    self._writer.family, self.model, self._token, list(pending.values()), batch_size=self.batch_size
                )
            ready.update(zip(pending, found))
            pending.clear()

        for medium in media:
            if isinstance(medium, Encoded):
                self._check_encoded(medium, clip)
                ready[id(medium)] = medium
            elif id(medium) not in ready and id(medium) not in pending:
                opened = tried(self._writer.open, errors, medium, clip)
                if isinstance(opened, Exception):
                    ready[id(medium)] = opened
                    continue
                pending[id(medium)] = opened
                if len(pending) >= self.batch_size:
                    run()
        if pending:
            run()
        return [ready[id(medium)] for medium in media]

    def _check_encoded(self, medium: Encoded, clip: ClipOptions) -> None:
        if medium.owner is not self._token:
            raise ValueError("this medium was encoded by another model: encode it again with the one that is asked")
        if clip.are_given:
            raise ValueError("the frames of an encoded clip are chosen: give num_frames and the like to encode")

    # -- answers --------------------------------------------------------------------------------------------------

    def _answer(
        self,
        media: Any,
        texts: Any,
        make_row: MakeRow,
        clip: ClipOptions,
        errors: str,
        options: dict[str, Any],
        choices: Sequence[str] | None = None,
    ) -> Any:
        if errors not in ("raise", "return"):
            raise ValueError(f"errors is {errors!r}; it may be 'raise' or 'return'")
        if not is_many(media):
            (media,) = self._see([media], clip, errors)  # once, for however many questions
            clip = ClipOptions()
        sources, prompts, many = pairs(media, texts)
        if options.get("stream"):
            return self._stream(sources, prompts, many, make_row, clip, choices, options)
        answers: list[Any] = []
        size = max(1, self.batch_size // options.get("num_beams", 1))  # each beam is a row of its own
        for first in range(0, len(sources), size):
            given = [each for each in sources[first : first + size] if not isinstance(each, Exception)]
            ready = iter(self._see(given, clip, errors))
            seen = [each if isinstance(each, Exception) else next(ready) for each in sources[first : first + size]]
            both = list(zip(seen, prompts[first : first + size]))
            rows = [make_row(each, text) for each, text in both if isinstance(each, Encoded)]
            found = iter(self._answer_rows(rows, options, choices))
            answers += [next(found) if isinstance(each, Encoded) else each for each, _ in both]
        return answers if many else answers[0]

    def _answer_rows(self, rows: list[Row], options: dict[str, Any], choices: Sequence[str] | None) -> list[Answer]:
        if choices is not None:
            return [self._choose(row, choices) for row in rows]
        return write(self.model, self._writer, rows, **_settings(options)) if rows else []

    def _choose(self, row: Row, choices: Sequence[str]) -> Answer:
        best = rank_candidates(self.model, self._writer, row, choices)[0]
        return Answer(best.text, "stop", best.num_tokens, best.logprob, frames_of(row))

    def _stream(
        self,
        sources: list[Any],
        prompts: list[Any],
        many: bool,
        make_row: MakeRow,
        clip: ClipOptions,
        choices: Sequence[str] | None,
        options: dict[str, Any],
    ) -> Any:
        if many or choices is not None or options.get("num_beams", 1) > 1:
            raise ValueError(
                "stream=True follows one medium and one prompt without beams: leave out lists, choices and num_beams"
            )
        return self.answer_row(make_row(self._see(sources, clip)[0], prompts[0]), **options)

    def answer_row(self, row: Row, *, stream: bool = False, **options: Any) -> Any:
        """Answer a prompt that is written already; an `AnswerStream` with `stream`."""
        settings = _settings(options)
        if not stream:
            return write(self.model, self._writer, [row], **settings)[0]
        if settings.get("num_beams", 1) > 1:
            raise ValueError("stream=True goes without beams: leave out num_beams")

        def run(**listening: Any) -> Answer:
            return write(self.model, self._writer, [row], **listening, **settings)[0]

        ends = end_tokens(self.model, settings)
        return stream_answer(run, self._writer.tokenizer, ends, settings["stop"])

    # -- windows --------------------------------------------------------------------------------------------------

    def _ask_windows(
        self,
        source: Any,
        question: str,
        seconds: float,
        make_row: MakeRow,
        clip: ClipOptions,
        choices: Sequence[str] | None,
        on_window: OnWindow | None,
        options: dict[str, Any],
    ) -> Answer:
        if isinstance(source, Encoded) or not self._writer.family.takes_video:
            raise ValueError("windows are of videos, which are read window by window: give a file, and a family for it")
        if options.get("stream"):
            raise ValueError("stream=True goes without windows: follow them with on_window")
        if choices is None and is_yes_no(question):
            choices = self._writer.family.yes_no

        def answer(frames: Frames) -> Answer:
            rows = [make_row(self._see([frames], ClipOptions())[0], question)]
            return self._answer_rows(rows, options, choices)[0]

        found = []
        for window, frames in answer_windows(source, seconds, answer, **self._writer.clip_arguments(clip)):
            found.append(window)
            if on_window is not None:
                on_window(window, frames)
        if choices is not None:
            return likeliest(found)
        merged = merge(question, found, lambda text: self._answer_text(text, options), self._fits(options))
        return merged if len(found) == 1 else replace(merged, frames=None)

    def _answer_text(self, text: str, options: dict[str, Any]) -> Answer:
        """What the language model alone says to a text."""
        return self._answer_rows([Row((), self._writer.question(text, ()), text)], options, None)[0]

    def _fits(self, options: dict[str, Any]) -> Callable[[str], bool]:
        text = self.model.config.get_text_config()
        most = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 512
        room = most - options.get("max_new_tokens", MAX_NEW_TOKENS)
        return lambda request: len(self._writer.text_ids(self._writer.question(request, ()))) <= room


def pairs(media: Any, texts: Any) -> tuple[list[Any], list[Any], bool]:
    """Media and texts side by side, and whether either was a list.

    Raises:
        ValueError: two lists of different lengths.
    """
    lists = [values for values in (media, texts) if is_many(values)]
    if not lists:
        return [media], [texts], False
    lengths = sorted({len(values) for values in lists})
    if len(lengths) > 1:
        raise ValueError(
            f"{len(media)} images and {len(texts)} texts: two lists go side by side and must be equally long; "
            f"give a single image or text to use it with all of the others"
        )
    count = lengths[0]
    return (
        list(media) if is_many(media) else [media] * count,
        list(texts) if is_many(texts) else [texts] * count,
        True,
    )


def tried(work: Callable[..., Any], errors: str, source: Any, *arguments: Any) -> Any:
    """What the work gives, or with errors="return" the error of a medium that cannot be read."""
    try:
        return work(source, *arguments)
    except (OnlookerError, OSError) as error:
        if errors == "raise":
            raise
        return error


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The options of an answer with their defaults."""
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "stop": (), **options}
    settings.pop("stream", None)
    stop = settings["stop"] or ()
    return {**settings, "stop": (stop,) if isinstance(stop, str) else tuple(stop)}
