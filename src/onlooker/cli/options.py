"""The options that commands share, each written down once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_MODEL, _GENERATION = "Model", "Generation"

# The pipeline has these too; importing it would bring torch (tests compare the two).
QUESTION = "Question: {} Answer:"
MAX_NEW_TOKENS = 50

Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Images: paths, quoted globs, URLs, or - for stdin.")
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME_OR_DIR",
        envvar="ONLOOKER_MODEL",
        rich_help_panel=_MODEL,
        help="Folder or hub name.",
    ),
]
Revision = Annotated[
    str | None, typer.Option("--revision", rich_help_panel=_MODEL, help="Branch, tag or commit of a hub name.")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        rich_help_panel=_MODEL,
        help="default, reference, fp32, bf16, fp16, auto, or the name of a torch dtype.",
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", rich_help_panel=_MODEL, help="cpu, cuda, cuda:1 ...; cuda where there is one.")
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", min=1, rich_help_panel=_MODEL, help="Images that go through the model at once.")
]

MaxNewTokens = Annotated[
    int,
    typer.Option("--max-new-tokens", min=1, rich_help_panel=_GENERATION, help="Cut the answer after so many tokens."),
]
NumBeams = Annotated[
    int, typer.Option("--num-beams", min=1, rich_help_panel=_GENERATION, help="Beams of the search; 1 is greedy.")
]
Temperature = Annotated[
    float,
    typer.Option("--temperature", min=0.0, rich_help_panel=_GENERATION, help="Above 0: sample, at this temperature."),
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", min=0.0, max=1.0, rich_help_panel=_GENERATION, help="Sample from this mass only."),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", min=1, rich_help_panel=_GENERATION, help="Sample from so many tokens only.")
]
Seed = Annotated[int | None, typer.Option("--seed", rich_help_panel=_GENERATION, help="Seed of the sampling.")]
Penalty = Annotated[
    float | None,
    typer.Option("--repetition-penalty", rich_help_panel=_GENERATION, help="Above 1: repeat less. 1.5 suits captions."),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop", metavar="TEXT", rich_help_panel=_GENERATION, help="End the answer at this text; repeatable."
    ),
]

Stream = Annotated[bool, typer.Option("--stream", help="Print the words as they come.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per image, one per line.")]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Print what the model would be given, and stop before the weights are read."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr; errors stay.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


QuestionOption = Annotated[
    str | None, typer.Option("--question", "-q", help="The question, when all arguments are images.")
]
Template = Annotated[
    str, typer.Option("--template", metavar="TEXT", help="The prompt, with {} where the question goes.")
]


def sampling(
    temperature: float, top_p: float | None, top_k: int | None, seed: int | None, penalty: float | None
) -> dict[str, Any]:
    """The keywords of generation that these options stand for.

    Raises:
        typer.BadParameter: options of sampling without sampling.
    """
    chosen: dict[str, Any] = {"repetition_penalty": penalty} if penalty is not None else {}
    if temperature > 0:
        chosen |= {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    elif top_p is not None or top_k is not None or seed is not None:
        raise typer.BadParameter("--top-p, --top-k and --seed belong to sampling: give --temperature above 0 too.")
    return {name: value for name, value in chosen.items() if value is not None}


def question_prompt(template: str, question: str) -> str:
    """The words that the question is put in.

    Raises:
        typer.BadParameter: the template has no place for the question.
    """
    if "{}" not in template:
        raise typer.BadParameter(f"--template {template!r} has no {{}} for the question.")
    return template.replace("{}", question)
