"""`onlooker match` and `onlooker rank`: numbers for texts that the user gives."""

from __future__ import annotations

from typing import Annotated

import typer

from onlooker.cli import options as opt
from onlooker.cli.builtin import ANSWERS, MATCHES
from onlooker.cli.frames import Sought
from onlooker.cli.inputs import Input, expand, split_last, split_texts
from onlooker.cli.running import Checkpoint, answer_files, check_inputs, seek, show_prompts
from onlooker.cli.show import line, record


def match(
    files: Annotated[list[str], typer.Argument(metavar="FILE... TEXT...", help="Images, then texts.")],
    *,
    texts: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text, when all arguments are images; repeatable.")
    ] = None,
    show_prompt: opt.ShowPrompt = False,
    source: opt.Source,
    batch_size: opt.BatchSize = 8,
    telling: opt.Telling,
) -> int:
    """Say how well texts fit each image: matching probability (ITM) and similarity (ITC)."""
    names, chosen = split_texts(files, texts, "--text")
    inputs = expand(names)
    check_inputs(inputs)
    checkpoint = Checkpoint(source, telling, MATCHES, batch_size=batch_size, wants_matching=True, is_shown=show_prompt)
    if show_prompt:
        return show_prompts(checkpoint, inputs, {}, lambda writer, kind: [(text, text) for text in chosen], telling)

    def show(given: Input, matches: list) -> None:
        if telling.as_json:
            record({"file": given.name, "matches": [each.to_dict() for each in matches]})
            return
        _heading(given, inputs)
        for each in matches:
            line(f"ITM {each.probability:7.2%}  ITC {each.similarity:+.4f}  {each.text}")

    return answer_files(
        inputs,
        telling,
        batch_size,
        checkpoint.open,
        lambda _, images: checkpoint.eyes.match(images, chosen),
        show,
        lambda: checkpoint.eyes,
    )


def rank(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE... QUESTION", help="Images and videos, then the question.")
    ],
    *,
    candidates: Annotated[
        list[str], typer.Option("--candidate", "-c", help="A possible answer; repeat it for each of them.")
    ],
    question: opt.QuestionOption = None,
    template: opt.Template = None,
    show_prompt: opt.ShowPrompt = False,
    source: opt.Source,
    batch_size: opt.BatchSize = 8,
    frames: Sought,
    telling: opt.Telling,
) -> int:
    """Order possible answers to a question about each image or video by how likely they are."""
    names, text = split_last(files, question, "question", "--question")
    inputs, clip = expand(names), frames.keywords()
    opt.check_template(template)
    check_inputs(inputs)
    checkpoint = Checkpoint(source, telling, ANSWERS, batch_size=batch_size, is_shown=show_prompt)
    clip |= seek(frames.text(text), frames, source, telling)
    if show_prompt:
        return show_prompts(
            checkpoint, inputs, clip, lambda writer, kind: [(writer.question(text, (kind,), template), text)], telling
        )

    def show(given: Input, ranked: list) -> None:
        if telling.as_json:
            record({"file": given.name, "candidates": [each.to_dict() for each in ranked]})
            return
        _heading(given, inputs)
        for each in ranked:
            line(f"{each.probability:7.2%}  log p {each.logprob:9.3f}  {each.text}")

    return answer_files(
        inputs,
        telling,
        batch_size,
        lambda given: checkpoint.open(given, clip),
        lambda _, media: checkpoint.eyes.rank(media, text, candidates, template=template),
        show,
        lambda: checkpoint.eyes,
    )


def _heading(given: Input, inputs: list[Input]) -> None:
    if len(inputs) > 1:
        line(f"{given.name}:")
