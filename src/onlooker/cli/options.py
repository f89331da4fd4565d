"""The options that commands share, each written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_MODEL, _GENERATION, _VIDEO = "Model", "Generation", "Video"

# The pipeline has this too; importing it would bring torch (a test compares the two).
MAX_NEW_TOKENS = 50
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Images and videos: paths, quoted globs, URLs, or - for stdin.")
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
    int,
    typer.Option(
        "--batch-size",
        min=1,
        rich_help_panel=_MODEL,
        help="Images, frames or prompts that go through the model at once.",
    ),
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
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per file, one per line.")]
ShowPrompt = Annotated[
    bool,
    typer.Option("--show-prompt", help="Print what the model would be given, and stop before the weights are read."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr; errors stay.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


NumFrames = Annotated[
    int | None,
    typer.Option(
        "--frames", min=1, rich_help_panel=_VIDEO, help="Frames of each video; as the family was trained if not given."
    ),
]
Sampling = Annotated[
    str | None,
    typer.Option(
        "--sampling",
        rich_help_panel=_VIDEO,
        help="How frames are spread: uniform, linspace, time, fps, keyframes, scene ...",
    ),
]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TIME", rich_help_panel=_VIDEO, help="From here on: 0:10, or seconds.")
]
End = Annotated[
    str | None, typer.Option("--end", metavar="TIME", rich_help_panel=_VIDEO, help="Up to here: 0:20, or seconds.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        rich_help_panel=_VIDEO,
        help="Raise a limit that an error names, such as max_frames=128, or none for no limit; repeatable.",
    ),
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--contact-sheet",
        metavar="FILE",
        rich_help_panel=_VIDEO,
        help="Save a picture of the frames that were used, with their times.",
    ),
]
Windows = Annotated[
    float | None,
    typer.Option(
        "--windows",
        min=0.1,
        metavar="SECONDS",
        rich_help_panel=_VIDEO,
        help="Answer a long video window by window, then make one answer of them.",
    ),
]

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


def clip_options(
    num_frames: int | None, sampling: str | None, start: str | None, end: str | None, limits: list[str] | None
) -> dict[str, Any]:
    """The keywords of the pipeline that choose frames.

    Raises:
        typer.BadParameter: no time, a limit that does not exist, or no number for one.
    """
    from onlooker.media.collect import SAMPLINGS
    from onlooker.pipeline.times import parse_seconds

    # Of these, three want numbers that only Python can give, and "query" a model that scores.
    known = [name for name in SAMPLINGS if name not in ("indices", "seconds", "window", "query")]
    if sampling is not None and sampling not in known:
        raise typer.BadParameter(f"--sampling {sampling!r} is unknown; there are {', '.join(known)}.")
    for option, time in (("--start", start), ("--end", end)):
        try:
            parse_seconds(time)
        except ValueError as error:
            raise typer.BadParameter(f"{option}: {error}") from None
    chosen = {"num_frames": num_frames, "sampling": sampling, "start": start, "end": end}
    return {**chosen, "limits": _limits(limits) if limits else None}


def _limits(given: list[str]) -> Any:
    from onlooker.media.limits import VideoLimits

    known: dict[str, Any] = vars(VideoLimits())
    values: dict[str, Any] = {}
    for each in given:
        name, _, number = each.partition("=")
        if name not in known:
            raise typer.BadParameter(f"--limit {each!r}: give one of {', '.join(known)}, as in max_frames=128.")
        try:
            kind = float if isinstance(known[name], float) else int
            values[name] = None if number.lower() == "none" else kind(number)
        except ValueError:
            raise typer.BadParameter(f"--limit {each!r}: {number!r} is not a number; none means no limit.") from None
    try:
        return VideoLimits(**values)
    except ValueError as error:
        raise typer.BadParameter(f"--limit: {error}.") from None


def check_template(template: str | None) -> None:
    """
    Raises:
        typer.BadParameter: the template has no place for the question.
    """
    if template is not None and "{}" not in template:
        raise typer.BadParameter(f"--template {template!r} has no {{}} for the question.")


def check_sheet(path: Path | None) -> None:
    """
    Raises:
        typer.BadParameter: a kind of file that a contact sheet cannot be, or a folder that is not there.
    """
    if path is not None and path.suffix.lower() not in SHEET_SUFFIXES:
        raise typer.BadParameter(f"--contact-sheet {path} should end in {', '.join(SHEET_SUFFIXES)}.")
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"--contact-sheet {path}: there is no folder {path.absolute().parent}.")
