"""`onlooker caption` and `onlooker ask`: new words about images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlooker.cli import options as opt
from onlooker.cli.inputs import Input, expand, split_last
from onlooker.cli.running import Reporting, Source, answer_files, load, show_prompts
from onlooker.cli.show import line, note, record

if TYPE_CHECKING:
    from onlooker.pipeline import Answer


def caption(
    files: opt.Files,
    model: opt.Model,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help='Words to go on from, such as "a photo of".')] = "",
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
    """Say what is in each image."""
    generation = opt.sampling(temperature, top_p, top_k, seed, repetition_penalty)
    generation |= {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "stop": stop or []}
    source = Source(model, revision, dtype, device, batch_size)
    return _write(source, expand(files), prompt, generation, stream, show_prompt, Reporting(as_json, quiet, debug))


def ask(
    files: Annotated[list[str], typer.Argument(metavar="FILE... QUESTION", help="Images, then the question.")],
    model: opt.Model,
    question: opt.QuestionOption = None,
    template: opt.Template = opt.QUESTION,
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
    """Answer a question about each image."""
    names, text = split_last(files, question, "question", "--question")
    generation = opt.sampling(temperature, top_p, top_k, seed, repetition_penalty)
    generation |= {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "stop": stop or []}
    source = Source(model, revision, dtype, device, batch_size)
    prompt = opt.question_prompt(template, text)
    return _write(source, expand(names), prompt, generation, stream, show_prompt, Reporting(as_json, quiet, debug))


def _write(
    source: Source,
    inputs: list[Input],
    prompt: str,
    generation: dict[str, Any],
    stream: bool,
    show_prompt: bool,
    telling: Reporting,
) -> int:
    """Go on from the prompt for every image: `caption` and `ask` differ in their prompt only."""
    if stream and (telling.as_json or generation["num_beams"] > 1):
        raise typer.BadParameter("--stream prints words as they come: leave out --json and --num-beams.")
    if show_prompt:
        return show_prompts(source, inputs, [prompt], telling)
    eyes = load(source, telling.quiet)
    many = len(inputs) > 1

    def show(given: Input, answer: Answer) -> None:
        if telling.as_json:
            record({"file": given.name, **answer.to_dict()})
        elif not stream:
            line(f"{given.name}: {answer}" if many else str(answer))
        if answer.finish_reason == "length":
            limit = generation["max_new_tokens"]
            note(f"note: {given.name}: cut at {limit} tokens; --max-new-tokens gives more", telling.quiet)

    def work(batch: list[Input], images: list[Any]) -> list[Answer]:
        if not stream:
            return eyes.caption(images, prompt=prompt, **generation)
        with eyes.caption(images[0], prompt=prompt, stream=True, **generation) as pieces:
            if many:
                typer.echo(f"{batch[0].name}: ", nl=False)
            for piece in pieces:
                typer.echo(piece, nl=False)
            typer.echo()
            return [pieces.answer]

    return answer_files(inputs, telling, 1 if stream else source.batch_size, work, show)
