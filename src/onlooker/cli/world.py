"""`onlooker world`: a data set of coloured shapes, as MP4 and PNG files with conversations, captions and facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onlooker.cli.options import AsJson, Debug
from onlooker.cli.show import line, record


def world(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new folder.")],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="train, val, test or combos.")] = "train",
    clips: Annotated[int, typer.Option("--clips", min=0, help="MP4 files.")] = 8,
    stills: Annotated[int, typer.Option("--stills", min=0, help="PNG files.")] = 8,
    size: Annotated[int, typer.Option("--size", min=16, help="Pixels of a side, even.")] = 224,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first scene; the next ones follow.")] = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Render clips and stills of coloured shapes with questions and captions, to train or to try things on."""
    from onlooker.train.world import write_world

    path = write_world(folder, split, clips=clips, stills=stills, size=size, first=seed)
    if as_json:
        record({"conversations": str(path), "clips": clips, "stills": stills, "split": split})
    else:
        line(f"{clips} clips and {stills} stills in {path.parent}; conversations in {path.name}")
