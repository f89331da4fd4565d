"""The trained checkpoints that come with the package: what they are called, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

from onlooker.errors import ModelNotFoundError

OWNER = "onlooker/"
#: holds a folder for each name
FOLDER = Path(__file__).parent
#: name -> what it is for
NAMES = {
    "onlooker/blip2-tiny": "captions pictures",
    "onlooker/blip2-itm-tiny": "matches pictures with texts",
    "onlooker/instructblipvideo-tiny": "answers about clips and pictures",
    "onlooker/video-llava-tiny": "answers and talks about clips and pictures",
}


def embedded_folder(name: str | os.PathLike[str]) -> Path | None:
    """The folder of a checkpoint that comes with the package; None for every name that has another owner.

    Raises:
        ModelNotFoundError: the package has no checkpoint of that name, or this installation lacks it.
    """
    if not isinstance(name, str) or not name.startswith(OWNER):
        return None
    if name not in NAMES:
        known = ", ".join(f"{each} ({what})" for each, what in NAMES.items())
        raise ModelNotFoundError(f"There is no {name}. The checkpoints that come with onlooker are {known}.")
    folder = FOLDER / name.removeprefix(OWNER)
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"{name} comes with onlooker, but {folder} has no config.json: this installation is not complete. Install "
            f"onlooker again, or name another checkpoint."
        )
    return folder
