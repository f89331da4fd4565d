"""The options that commands share, each written down once, in the groups in which they are taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

_MODEL, _GENERATION = "Model", "Generation"

# The pipeline has this too; importing it would bring torch (a test compares the two).
MAX_NEW_TOKENS = 50

Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Images and videos: paths, quoted globs, URLs, or - for stdin.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for each result, one per line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr; errors stay.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Revision = Annotated[
    str | None, typer.Option("--revision", rich_help_panel=_MODEL, help="Branch, tag or commit of a hub name.")
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        min=1,
        rich_help_panel=_MODEL,
        help="Images, frames or prompts that go through the model at once.",
    ),
]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Print what the model would be given, and stop before the weights are read."),
]
Stream = Annotated[bool, typer.Option("--stream", help="Print the words as they come.")]
QuestionOption = Annotated[
    str | None, typer.Option("--question", "-q", help="The question, when all arguments are files.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="The prompt, with {} where the question goes; as the family was trained if not given.",
    ),
]


@dataclass(frozen=True)
class Telling:
    """How results and errors are told."""

    as_json: AsJson = False
    quiet: Quiet = False
    debug: Debug = False


@dataclass(frozen=True)
class Source:
    """Which checkpoint, and how to load it."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME_OR_DIR",
            envvar="ONLOOKER_MODEL",
            rich_help_panel=_MODEL,
            help="Folder or hub name. Left out: a small one that comes along and knows only coloured shapes that move.",
        ),
    ] = None
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            metavar="NAME_OR_DIR",
            rich_help_panel=_MODEL,
            help="LoRA adapter in peft's format, put on the model.",
        ),
    ] = None
    revision: Revision = None
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            rich_help_panel=_MODEL,
            help="default, reference, fp32, bf16, fp16, auto, or the name of a torch dtype.",
        ),
    ] = "default"
    device: Annotated[
        str | None,
        typer.Option("--device", rich_help_panel=_MODEL, help="cpu, cuda, cuda:1 ...; cuda where there is one."),
    ] = None


CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache-folder",
        metavar="DIR",
        rich_help_panel=_MODEL,
        help="Keep what is made of media and prompts there: the next call about them goes on from it.",
    ),
]


@dataclass(frozen=True)
class Words:
    """How an answer is written."""

    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens", min=1, rich_help_panel=_GENERATION, help="Cut the answer after so many tokens."
        ),
    ] = MAX_NEW_TOKENS
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature", min=0.0, rich_help_panel=_GENERATION, help="Above 0: sample, at this temperature."
        ),
    ] = 0.0
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", min=0.0, max=1.0, rich_help_panel=_GENERATION, help="Sample from this mass only."),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, rich_help_panel=_GENERATION, help="Sample from so many tokens only."),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", rich_help_panel=_GENERATION, help="Seed of the sampling.")] = (
        None
    )
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            "--repetition-penalty", rich_help_panel=_GENERATION, help="Above 1: repeat less. 1.5 suits captions."
        ),
    ] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", metavar="TEXT", rich_help_panel=_GENERATION, help="End the answer at this text; repeatable."
        ),
    ] = None

    def keywords(self) -> dict[str, Any]:
        """The keywords of generation.

        Raises:
            typer.BadParameter: options of sampling without sampling.
        """
        chosen: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "stop": self.stop or []}
        sampling = {"top_p": self.top_p, "top_k": self.top_k, "seed": self.seed}
        if self.temperature > 0:
            chosen |= {"do_sample": True, "temperature": self.temperature, **sampling}
        elif any(value is not None for value in sampling.values()):
            raise typer.BadParameter("--top-p, --top-k and --seed belong to sampling: give --temperature above 0 too.")
        chosen["repetition_penalty"] = self.repetition_penalty
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class LongWords(Words):
    """How an answer in a conversation is written."""

    max_new_tokens: Annotated[
        int,
        typer.Option(
            "--max-new-tokens", min=1, rich_help_panel=_GENERATION, help="Cut the answer after so many tokens."
        ),
    ] = 256


@dataclass(frozen=True)
class BeamWords(Words):
    """How an answer is written that nobody waits for word by word."""

    num_beams: Annotated[
        int, typer.Option("--num-beams", min=1, rich_help_panel=_GENERATION, help="Beams of the search; 1 is greedy.")
    ] = 1

    def keywords(self) -> dict[str, Any]:
        return {**super().keywords(), "num_beams": self.num_beams}


def check_template(template: str | None) -> None:
    """
    Raises:
        typer.BadParameter: the template has no place for the question.
    """
    if template is not None and "{}" not in template:
        raise typer.BadParameter(f"--template {template!r} has no {{}} for the question.")
