"""From media and texts to rows, and from rows to answers, some at a time: what stands under `Onlooker`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

from onlooker.media import Frames, iter_windows
from onlooker.media.ahead import ahead
from onlooker.pipeline.answering import end_tokens, frames_of, write
from onlooker.pipeline.encoded import Encoded, Row, is_many
from onlooker.pipeline.looking import Look
from onlooker.pipeline.media import ClipOptions, fetched, is_picture
from onlooker.pipeline.ranking import rank_candidates
from onlooker.pipeline.records import Answer, WindowAnswer
from onlooker.pipeline.seeing import Seer
from onlooker.pipeline.streaming import stream_answer
from onlooker.pipeline.windows import answer_windows, is_yes_no, likeliest, merge

MAX_NEW_TOKENS = 50

MakeRow = Callable[[Encoded, Any], Row]
OnWindow = Callable[[WindowAnswer, Frames], None]


class Asker(Seer):
    """Answers rows in batches."""

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
        with closing(self._look_at(sources, clip, errors)) as looks:
            while chunk := list(islice(looks, size)):
                both = list(zip(self._encode(chunk), prompts[len(answers) :]))
                rows = [make_row(each, text) for each, text in both if isinstance(each, Encoded)]
                found = iter(self._answer_rows(rows, options, choices))
                answers += [next(found) if isinstance(each, Encoded) else each for each, _ in both]
        return answers if many else answers[0]

    def _answer_rows(self, rows: list[Row], options: dict[str, Any], choices: Sequence[str] | None) -> list[Answer]:
        if choices is not None:
            return [self._choose(row, choices) for row in rows]
        return write(self.model, self._writer, rows, reuse=self._reuse, **_settings(options)) if rows else []

    def _choose(self, row: Row, choices: Sequence[str]) -> Answer:
        best = rank_candidates(self.model, self._writer, row, choices, self._reuse)[0]
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
            return write(self.model, self._writer, [row], reuse=self._reuse, **settings)[0]
        if settings.get("num_beams", 1) > 1:
            raise ValueError("stream=True goes without beams: leave out num_beams")

        def run(**listening: Any) -> Answer:
            return write(self.model, self._writer, [row], reuse=self._reuse, **listening, **settings)[0]

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
        source = fetched(source, clip)
        if is_picture(source, clip):  # among videos: it has no windows
            return self._answer(source, question, make_row, clip, "raise", options, choices)
        yes = None
        if choices is None and is_yes_no(question):
            choices = self._writer.family.yes_no
            yes = choices[0]

        def answer(look: Look) -> Answer:
            return self._answer_rows([make_row(self._encode([look])[0], question)], options, choices)[0]

        found = []
        with closing(ahead(self._windows(source, seconds, clip, is_shown=on_window is not None))) as windows:
            for window, frames in answer_windows(windows, answer):
                found.append(window)
                if on_window is not None:
                    on_window(window, frames)
        if choices is not None:
            return likeliest(found, yes)
        merged = merge(question, found, lambda text: self._answer_text(text, options), self._fits(options))
        return merged if len(found) == 1 else replace(merged, frames=None)

    def _windows(
        self, source: Any, seconds: float, clip: ClipOptions, *, is_shown: bool
    ) -> Iterator[tuple[Frames, Look]]:
        """Frames of each window and what the model looks at; the frames in full size where they are shown."""
        shrink = None if is_shown else self._looker.shrink()
        for frames in iter_windows(source, seconds, resize=shrink, **self._writer.clip_arguments(clip)):
            yield frames, self._see_in_passing(frames, shrink)

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


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The options of an answer with their defaults."""
    settings = {"max_new_tokens": MAX_NEW_TOKENS, "stop": (), **options}
    settings.pop("stream", None)
    stop = settings["stop"] or ()
    return {**settings, "stop": (stop,) if isinstance(stop, str) else tuple(stop)}
