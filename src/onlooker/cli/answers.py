"""`onlooker caption` and `onlooker ask`: new words about images and videos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlooker.cli import options as opt
from onlooker.cli.inputs import Input, expand, split_last
from onlooker.cli.running import Reporting, Source, answer_files, load, show_prompts
from onlooker.cli.show import line, note, record

if TYPE_CHECKING:
    from onlooker.pipeline import Answer, Onlooker, WindowAnswer
    from onlooker.pipeline.sheet import ContactSheet


def caption(
    files: opt.Files,
    model: opt.Model,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help='Words to go on from, such as "a photo of".')
    ] = None,
    num_frames: opt.NumFrames = None,
    sampling: opt.Sampling = None,
    start: opt.Start = None,
    end: opt.End = None,
    limits: opt.Limit = None,
    contact_sheet: opt.Sheet = None,
    as_json: opt.AsJson = False,
    stream: opt.Stream = False,
    show_prompt: opt.ShowPrompt = False,
    max_new_tokens: opt.MaxNewTokens = opt.MAX_NEW_TOKENS,
    num_beams: opt.NumBeams = 1,
    temperature: opt.Temperature = 0.0,
    top_p: opt.TopP = None,
    top_k: opt.TopK = None,
    seed: opt.Seed = None,
    repetition_penalty: opt.Penalty = None,
    stop: opt.Stop = None,
    revision: opt.Revision = None,
    dtype: opt.Dtype = "default",
    device: opt.Device = None,
    batch_size: opt.BatchSize = 8,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Say what is in each image or video."""
    generation = opt.sampling(temperature, top_p, top_k, seed, repetition_penalty)
    generation |= {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "stop": stop or []}
    source = Source(model, revision, dtype, device, batch_size)
    asking = Asking(
        ask=lambda eyes, media, **options: eyes.caption(media, prompt=prompt, **options),
        texts=lambda writer, kind: [(writer.caption(prompt, (kind,)),) * 2],
        clip=opt.clip_options(num_frames, sampling, start, end, limits),
        generation=generation,
        stream=stream,
        sheet=contact_sheet,
        title="",
    )
    return _write(source, expand(files), asking, show_prompt, Reporting(as_json, quiet, debug))


def ask(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE... QUESTION", help="Images and videos, then the question.")
    ],
    model: opt.Model,
    question: opt.QuestionOption = None,
    template: opt.Template = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choice", "-c", help="A possible answer; repeat it, and the likeliest of them is given."),
    ] = None,
    num_frames: opt.NumFrames = None,
    sampling: opt.Sampling = None,
    start: opt.Start = None,
    end: opt.End = None,
    limits: opt.Limit = None,
    windows: opt.Windows = None,
    contact_sheet: opt.Sheet = None,
    as_json: opt.AsJson = False,
    stream: opt.Stream = False,
    show_prompt: opt.ShowPrompt = False,
    max_new_tokens: opt.MaxNewTokens = opt.MAX_NEW_TOKENS,
    num_beams: opt.NumBeams = 1,
    temperature: opt.Temperature = 0.0,
    top_p: opt.TopP = None,
    top_k: opt.TopK = None,
    seed: opt.Seed = None,
    repetition_penalty: opt.Penalty = None,
    stop: opt.Stop = None,
    revision: opt.Revision = None,
    dtype: opt.Dtype = "default",
    device: opt.Device = None,
    batch_size: opt.BatchSize = 8,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Answer a question about each image or video."""
    names, text = split_last(files, question, "question", "--question")
    opt.check_template(template)
    generation = opt.sampling(temperature, top_p, top_k, seed, repetition_penalty)
    generation |= {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "stop": stop or []}
    source = Source(model, revision, dtype, device, batch_size)
    fixed = {"template": template, "choices": choices or None}
    asking = Asking(
        ask=lambda eyes, media, **options: eyes.ask(media, text, **fixed, **options),
        texts=lambda writer, kind: [(writer.question(text, (kind,), template), text)],
        clip=opt.clip_options(num_frames, sampling, start, end, limits),
        generation=generation,
        stream=stream,
        windows=windows,
        sheet=contact_sheet,
        title=text,
    )
    if stream and (windows is not None or choices):
        raise typer.BadParameter("--stream prints words as they come: leave out --windows and --choice.")
    return _write(source, expand(names), asking, show_prompt, Reporting(as_json, quiet, debug))


@dataclass(frozen=True)
class Asking:
    """What `caption` and `ask` differ in, and how they go about it."""

    ask: Callable[..., Any]  # (eyes, media, **options)
    texts: Callable[[Any, str], list[tuple[str, str]]]
    clip: dict[str, Any]
    generation: dict[str, Any]
    stream: bool
    sheet: Path | None
    title: str  # above the contact sheet
    windows: float | None = None


def _write(source: Source, inputs: list[Input], asking: Asking, show_prompt: bool, telling: Reporting) -> int:
    """Answer about every file, tell the answers, and draw the contact sheet."""
    generation, many = asking.generation, len(inputs) > 1
    if asking.stream and (telling.as_json or generation["num_beams"] > 1):
        raise typer.BadParameter("--stream prints words as they come: leave out --json and --num-beams.")
    opt.check_sheet(asking.sheet)
    from onlooker.pipeline.sheet import ContactSheet

    sheet = ContactSheet(asking.title)
    if show_prompt:
        seen = None if asking.sheet is None else lambda given, medium: sheet.add(medium, given.name)
        code = show_prompts(source, inputs, asking.clip, asking.texts, telling, seen)
        _save(sheet, asking.sheet, telling)
        return code
    eyes = load(source, telling.quiet, inputs)

    def read(given: Input) -> Any:
        if asking.windows is not None:
            return _ask_windows(eyes, given, asking, sheet, telling, many)
        return eyes.load(given.source, **asking.clip)

    def show(given: Input, result: tuple[Any, Answer]) -> None:
        medium, answer = result
        if asking.sheet is not None and medium is not None:
            sheet.add(medium, given.name, str(answer))
        if telling.as_json:
            record({"file": given.name, **answer.to_dict()})
        elif not asking.stream:
            line(f"{given.name}: {answer}" if many else str(answer))
        if answer.finish_reason == "length":
            limit = generation["max_new_tokens"]
            note(f"note: {given.name}: cut at {limit} tokens; --max-new-tokens gives more", telling.quiet)

    def work(batch: list[Input], media: list[Any]) -> list[tuple[Any, Answer]]:
        if asking.windows is not None:
            return [(None, answer) for answer in media]
        if not asking.stream:
            return list(zip(media, asking.ask(eyes, media, **generation)))
        with asking.ask(eyes, media[0], stream=True, **generation) as pieces:
            if many:
                typer.echo(f"{batch[0].name}: ", nl=False)
            for piece in pieces:
                typer.echo(piece, nl=False)
            typer.echo()
            return [(media[0], pieces.answer)]

    size = 1 if asking.stream or asking.windows is not None else source.batch_size
    code = answer_files(inputs, telling, size, read, work, show)
    _save(sheet, asking.sheet, telling)
    return code


def _save(sheet: ContactSheet, path: Path | None, telling: Reporting) -> None:
    if path is None:
        return
    if sheet.is_empty:
        note(f"note: no frames were used, so {path} was not written", telling.quiet)
        return
    sheet.save(path)
    note(f"frames drawn in {path}", telling.quiet)


def _ask_windows(
    eyes: Onlooker, given: Input, asking: Asking, sheet: ContactSheet, telling: Reporting, many: bool
) -> Answer:
    """Answer a long video window by window; each answer is told as it comes."""

    def told(window: WindowAnswer, frames: Any) -> None:
        if asking.sheet is not None:
            sheet.add(frames, given.name, str(window))
        if not telling.as_json:
            line(f"{given.name}: {window}" if many else str(window))

    options = {**asking.generation, **asking.clip}
    return asking.ask(eyes, given.source, windows=asking.windows, on_window=told, **options)
