"""`onlooker match` and `onlooker rank`: numbers for texts that the user gives."""

from __future__ import annotations

from typing import Annotated

import typer

from onlooker.cli import options as opt
from onlooker.cli.inputs import Input, expand, split_last, split_texts
from onlooker.cli.running import Reporting, Source, answer_files, load, show_prompts
from onlooker.cli.show import line, record


def match(
    files: Annotated[list[str], typer.Argument(metavar="FILE... TEXT...", help="Images, then texts.")],
    model: opt.Model,
    texts: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text, when all arguments are images; repeatable.")
    ] = None,
    as_json: opt.AsJson = False,
    show_prompt: opt.ShowPrompt = False,
    revision: opt.Revision = None,
    dtype: opt.Dtype = "default",
    device: opt.Device = None,
    batch_size: opt.BatchSize = 8,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Say how well texts fit each image: matching probability (ITM) and similarity (ITC)."""
    names, chosen = split_texts(files, texts, "--text")
    inputs, telling = expand(names), Reporting(as_json, quiet, debug)
    source = Source(model, revision, dtype, device, batch_size, wants_matching=True)
    if show_prompt:
        return show_prompts(source, inputs, {}, lambda writer, kind: [(text, text) for text in chosen], telling)
    eyes = load(source, quiet, inputs)

    def show(given: Input, matches: list) -> None:
        if as_json:
            record({"file": given.name, "matches": [each.to_dict() for each in matches]})
            return
        _heading(given, inputs)
        for each in matches:
            line(f"ITM {each.probability:7.2%}  ITC {each.similarity:+.4f}  {each.text}")

    return answer_files(
        inputs,
        telling,
        batch_size,
        lambda given: eyes.load(given.source),
        lambda _, images: eyes.match(images, chosen),
        show,
    )


def rank(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE... QUESTION", help="Images and videos, then the question.")
    ],
    model: opt.Model,
    candidates: Annotated[
        list[str], typer.Option("--candidate", "-c", help="A possible answer; repeat it for each of them.")
    ],
    question: opt.QuestionOption = None,
    template: opt.Template = None,
    num_frames: opt.NumFrames = None,
    sampling: opt.Sampling = None,
    start: opt.Start = None,
    end: opt.End = None,
    limits: opt.Limit = None,
    as_json: opt.AsJson = False,
    show_prompt: opt.ShowPrompt = False,
    revision: opt.Revision = None,
    dtype: opt.Dtype = "default",
    device: opt.Device = None,
    batch_size: opt.BatchSize = 8,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Order possible answers to a question about each image or video by how likely they are."""
    names, text = split_last(files, question, "question", "--question")
    inputs, telling = expand(names), Reporting(as_json, quiet, debug)
    source = Source(model, revision, dtype, device, batch_size)
    clip = opt.clip_options(num_frames, sampling, start, end, limits)
    opt.check_template(template)
    if show_prompt:
        return show_prompts(
            source, inputs, clip, lambda writer, kind: [(writer.question(text, (kind,), template), text)], telling
        )
    eyes = load(source, quiet, inputs)

    def show(given: Input, ranked: list) -> None:
        if as_json:
            record({"file": given.name, "candidates": [each.to_dict() for each in ranked]})
            return
        _heading(given, inputs)
        for each in ranked:
            line(f"{each.probability:7.2%}  log p {each.logprob:9.3f}  {each.text}")

    return answer_files(
        inputs,
        telling,
        batch_size,
        lambda given: eyes.load(given.source, **clip),
        lambda _, media: eyes.rank(media, text, candidates, template=template),
        show,
    )


def _heading(given: Input, inputs: list[Input]) -> None:
    if len(inputs) > 1:
        line(f"{given.name}:")
