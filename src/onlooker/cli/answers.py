"""`onlooker caption` and `onlooker ask`: new words about images and videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlooker.cli import options as opt
from onlooker.cli.builtin import ANSWERS, captioner
from onlooker.cli.frames import Sheet, Sought, Windows, check_sheet
from onlooker.cli.inputs import Input, expand, split_last
from onlooker.cli.running import Checkpoint, answer_files, check_inputs, seek, show_prompts
from onlooker.cli.show import line, note, record

if TYPE_CHECKING:
    from onlooker.pipeline import Answer, WindowAnswer
    from onlooker.pipeline.sheet import ContactSheet


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The options that `caption` and `ask` have in common."""

    stream: opt.Stream = False
    show_prompt: opt.ShowPrompt = False
    telling: opt.Telling
    source: opt.Source
    batch_size: opt.BatchSize = 8
    cache_folder: opt.CacheFolder = None
    frames: Sought
    contact_sheet: Sheet = None
    words: opt.BeamWords


@dataclass(frozen=True)
class Asking:
    """What they differ in."""

    ask: Callable[..., Any]  # (eyes, media, **options)
    texts: Callable[[Any, str], list[tuple[str, str]]]
    question: str | None = None
    windows: float | None = None


def caption(
    files: opt.Files,
    *,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help='Words to go on from, such as "a photo of".')
    ] = None,
    given: Writing,
) -> int:
    """Say what is in each image or video."""
    inputs = expand(files)
    asking = Asking(
        ask=lambda eyes, media, **options: eyes.caption(media, prompt=prompt, **options),
        texts=lambda writer, kind: [(writer.caption(prompt, (kind,)),) * 2],
    )
    return _write(inputs, asking, given, captioner(inputs))


def ask(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE... QUESTION", help="Images and videos, then the question.")
    ],
    *,
    question: opt.QuestionOption = None,
    template: opt.Template = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choice", "-c", help="A possible answer; repeat it, and the likeliest of them is given."),
    ] = None,
    windows: Windows = None,
    given: Writing,
) -> int:
    """Answer a question about each image or video."""
    names, text = split_last(files, question, "question", "--question")
    opt.check_template(template)
    if given.stream and (windows is not None or choices):
        raise typer.BadParameter("--stream prints words as they come: leave out --windows and --choice.")
    fixed = {"template": template, "choices": choices or None}
    asking = Asking(
        ask=lambda eyes, media, **options: eyes.ask(media, text, **fixed, **options),
        texts=lambda writer, kind: [(writer.question(text, (kind,), template), text)],
        question=text,
        windows=windows,
    )
    return _write(expand(names), asking, given, ANSWERS)


def _write(inputs: list[Input], asking: Asking, given: Writing, built_in: str) -> int:
    """Answer about every file, tell the answers, and draw the contact sheet."""
    telling, path = given.telling, given.contact_sheet
    if given.stream and (telling.as_json or given.words.num_beams > 1):
        raise typer.BadParameter("--stream prints words as they come: leave out --json and --num-beams.")
    check_sheet(path)
    clip, text = given.frames.keywords(), given.frames.text(asking.question)
    given.words.keywords()  # wrong options are told before a model is looked for
    check_inputs(inputs)
    checkpoint = Checkpoint(
        given.source,
        telling,
        built_in,
        batch_size=given.batch_size,
        is_shown=given.show_prompt,
        cache_folder=given.cache_folder,
    )
    clip |= seek(text, given.frames, given.source, telling)
    from onlooker.pipeline.sheet import ContactSheet

    run = _Run(inputs, asking, given, checkpoint, clip, ContactSheet(asking.question or ""))
    code = run.show_prompts() if given.show_prompt else run.answer_windows() if asking.windows else run.answer()
    if path is not None:
        run.save_sheet(path)
    checkpoint.say_reuse()
    return code


@dataclass(frozen=True)
class _Run:
    """One call of a command, with all that it needs at hand."""

    inputs: list[Input]
    asking: Asking
    given: Writing
    checkpoint: Checkpoint
    clip: dict[str, Any]
    sheet: ContactSheet

    def show_prompts(self) -> int:
        """Show what the model would be given."""

        def seen(given: Input, medium: Any) -> None:
            self._draw(given, medium, "")

        return show_prompts(self.checkpoint, self.inputs, self.clip, self.asking.texts, self.given.telling, seen)

    def answer(self) -> int:
        """Answer about some files at a time, or word by word about one after the other."""
        generation = self.given.words.keywords()

        def work(batch: list[Input], media: list[Any]) -> list[tuple[Any, Answer]]:
            eyes = self.checkpoint.eyes
            if not self.given.stream:
                return list(zip(media, self.asking.ask(eyes, media, **generation)))
            with self.asking.ask(eyes, media[0], stream=True, **generation) as pieces:
                typer.echo(self._name(batch[0]), nl=False)
                for piece in pieces:
                    typer.echo(piece, nl=False)
                typer.echo()
                return [(media[0], pieces.answer)]

        def show(given: Input, result: tuple[Any, Answer]) -> None:
            medium, answer = result
            self._draw(given, medium, str(answer))
            self._tell(given, answer, is_told=self.given.stream)

        return self._go(lambda given: self.checkpoint.open(given, self.clip), work, show)

    def answer_windows(self) -> int:
        """Answer long videos window by window; each window's answer is told as it comes.

        Raises:
            ValueError: the family takes pictures.
        """
        family = self.checkpoint.writer.family
        if not family.takes_video:
            raise ValueError(f"windows are of videos, and {family.name} takes images: leave out --windows")
        options = {**self.given.words.keywords(), **self.clip, "windows": self.asking.windows}

        def read(given: Input) -> Answer:
            def told(window: WindowAnswer, frames: Any) -> None:
                self._draw(given, frames, str(window))
                if not self.given.telling.as_json:
                    line(f"{self._name(given)}{window}")

            return self.asking.ask(eyes, given.source, on_window=told, **options)

        eyes = self.checkpoint.eyes
        return self._go(read, lambda _, answers: answers, self._tell, size=1, reads_ahead=False)

    def save_sheet(self, path: Path) -> None:
        """Write the contact sheet, and say where."""
        quiet = self.given.telling.quiet
        if self.sheet.is_empty:
            note(f"note: no frames were used, so {path} was not written", quiet)
            return
        self.sheet.save(path)
        note(f"frames drawn in {path}", quiet)

    def _go(self, read: Any, work: Any, show: Any, size: int | None = None, reads_ahead: bool = True) -> int:
        size = 1 if self.given.stream else size or self.given.batch_size
        rest = (lambda: self.checkpoint.eyes, reads_ahead)
        return answer_files(self.inputs, self.given.telling, size, read, work, show, *rest)

    def _tell(self, given: Input, answer: Answer, is_told: bool = False) -> None:
        telling, limit = self.given.telling, self.given.words.max_new_tokens
        if telling.as_json:
            record({"file": given.name, **answer.to_dict()})
        elif not is_told:
            line(f"{self._name(given)}{answer}")
        if answer.finish_reason == "length":
            note(f"note: {given.name}: cut at {limit} tokens; --max-new-tokens gives more", telling.quiet)

    def _name(self, given: Input) -> str:
        """What stands in front of a line about a file, where there are several."""
        return f"{given.name}: " if len(self.inputs) > 1 else ""

    def _draw(self, given: Input, medium: Any, text: str) -> None:
        if self.given.contact_sheet is not None:
            self.sheet.add(medium, given.name, text)
