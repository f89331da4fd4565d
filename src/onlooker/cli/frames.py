"""Which frames of videos are looked at: the options of it, and what they mean to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

_VIDEO = "Video"
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

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


@dataclass(frozen=True)
class Clips:
    """Which frames of clips are looked at."""

    num_frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            rich_help_panel=_VIDEO,
            help="Frames of each video; as the family was trained if not given.",
        ),
    ] = None
    sampling: Annotated[
        str | None,
        typer.Option(
            "--sampling",
            rich_help_panel=_VIDEO,
            help="How frames are chosen: uniform, linspace, time, fps, keyframes, scene ...",
        ),
    ] = None
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", rich_help_panel=_VIDEO, help="From here on: 0:10, or seconds."),
    ] = None
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", rich_help_panel=_VIDEO, help="Up to here: 0:20, or seconds.")
    ] = None
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            metavar="NAME=NUMBER",
            rich_help_panel=_VIDEO,
            help="Raise a limit that an error names, such as max_frames=128, or none for no limit; repeatable.",
        ),
    ] = None

    def keywords(self) -> dict[str, Any]:
        """The keywords of the pipeline that choose frames.

        Raises:
            typer.BadParameter: no time, a limit that does not exist, or no number for one.
        """
        from onlooker.media.collect import SAMPLINGS
        from onlooker.pipeline.times import parse_seconds

        # Three want numbers that only Python can give; "query" is settled by who takes one.
        known = [name for name in SAMPLINGS if name not in ("indices", "seconds", "window", "query")]
        if self.sampling is not None and self.sampling not in known:
            raise typer.BadParameter(f"--sampling {self.sampling!r} is unknown; there are {', '.join(known)}.")
        for option, time in (("--start", self.start), ("--end", self.end)):
            try:
                parse_seconds(time)
            except ValueError as error:
                raise typer.BadParameter(f"{option}: {error}") from None
        chosen = {"num_frames": self.num_frames, "sampling": self.sampling, "start": self.start, "end": self.end}
        return {**chosen, "limits": _limits(self.limits) if self.limits else None}


@dataclass(frozen=True)
class Sought(Clips):
    """Frames that may also be chosen by how well they fit a text."""

    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="TEXT",
            rich_help_panel=_VIDEO,
            help="Take the frames that fit this text best. --sampling query takes those that fit the question.",
        ),
    ] = None
    query_model: Annotated[
        str | None,
        typer.Option(
            "--query-model",
            metavar="NAME_OR_DIR",
            rich_help_panel=_VIDEO,
            help="Matching checkpoint that finds them. Left out: the small one that comes along.",
        ),
    ] = None

    def keywords(self) -> dict[str, Any]:
        if not self.are_sought:
            return super().keywords()
        if self.sampling not in (None, "query"):
            raise typer.BadParameter(
                f"--sampling {self.sampling} and --query choose frames in different ways: give one."
            )
        return replace(self, sampling=None, query=None, query_model=None).keywords()

    @property
    def are_sought(self) -> bool:
        """Whether a matching checkpoint chooses them."""
        return self.sampling == "query" or self.query is not None or self.query_model is not None

    def text(self, question: str | None) -> str | None:
        """What the frames should fit; None where they are not sought.

        Raises:
            typer.BadParameter: they are, and there is neither a question nor a text.
        """
        wanted = self.query or question
        if self.are_sought and not wanted:
            raise typer.BadParameter("there is no question that frames could fit: give --query TEXT.")
        return wanted if self.are_sought else None


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


def check_sheet(path: Path | None) -> None:
    """
    Raises:
        typer.BadParameter: a kind of file that a contact sheet cannot be, or a folder that is not there.
    """
    if path is not None and path.suffix.lower() not in SHEET_SUFFIXES:
        raise typer.BadParameter(f"--contact-sheet {path} should end in {', '.join(SHEET_SUFFIXES)}.")
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"--contact-sheet {path}: there is no folder {path.absolute().parent}.")
