"""What was typed as FILE... becomes a list of images: paths, globs, URLs, stdin."""

from __future__ import annotations

import glob
import os
import sys
from dataclasses import dataclass
from typing import Any

import typer


@dataclass(frozen=True)
class Input:
    """One image to be: the name to show, and what `load_image` is given."""

    name: str
    source: Any

    def is_there(self) -> bool:
        """Whether reading it may work: all but paths of files that do not exist."""
        return not isinstance(self.source, str) or _is_url(self.source) or os.path.exists(self.source)

    def is_picture(self) -> bool:
        """Whether its first bytes are those of a picture; of what is not on this machine, whether its name is."""
        from onlooker.media.animation import looks_like_image

        if isinstance(self.source, bytes):
            return looks_like_image(self.source[:16])
        if not os.path.isfile(self.source):
            return self.source.startswith("data:image/") or self.source.lower().endswith(_PICTURES)
        with open(self.source, "rb") as file:
            return looks_like_image(file.read(16))


def expand(patterns: list[str]) -> list[Input]:
    """Every image that the arguments stand for, in order, each glob sorted.

    An argument that matches nothing stays as it is: reading it fails with its own name, and the other files go on.
    """
    return [found for pattern in patterns for found in _expand(pattern)]


def _expand(pattern: str) -> list[Input]:
    if pattern == "-":
        return [Input("stdin", sys.stdin.buffer.read())]
    if _is_url(pattern) or os.path.exists(pattern) or not glob.has_magic(pattern):
        return [Input(_shown(pattern), pattern)]
    matches = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    return [Input(path, path) for path in matches] or [Input(pattern, pattern)]


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://", "data:"))


def _shown(text: str) -> str:
    return text[:32] + "..." if text.startswith("data:") and len(text) > 35 else text


#: endings that say "file" even where there is none of that name, so that a mistyped name is not taken for a text
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
_VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m4v", ".flv", ".h264")


def split_texts(arguments: list[str], given: list[str] | None, option: str) -> tuple[list[str], list[str]]:
    """Part FILE... TEXT...: the texts are the option's values when given, else what follows the last file.

    Raises:
        typer.BadParameter: there is no text, or a file stands behind a text.
    """
    if given:
        return arguments, given
    are_files = [True, *map(_names_a_file, arguments[1:])]
    count = are_files.index(False) if False in are_files else len(arguments)
    files, texts = arguments[:count], arguments[count:]
    if not texts:
        raise typer.BadParameter(f"give a text after the images, or {option}.")
    if any(are_files[count:]):
        late = arguments[count + are_files[count:].index(True)]
        raise typer.BadParameter(f"{late!r} is a file behind a text: give images first, or the texts with {option}.")
    return files, texts


def _names_a_file(text: str) -> bool:
    return text == "-" or _is_url(text) or os.path.exists(text) or text.lower().endswith((*_PICTURES, *_VIDEOS))


def split_last(arguments: list[str], given: str | None, what: str, option: str) -> tuple[list[str], str]:
    """Part FILE... TEXT: the text is the option's value when given, else the last argument.

    Raises:
        typer.BadParameter: there is no text, no file, or the last argument is itself a file.
    """
    if given is not None:
        return arguments, given
    if len(arguments) < 2:
        raise typer.BadParameter(f"give an image and a {what}, in this order.")
    *files, text = arguments
    if os.path.isfile(text):
        raise typer.BadParameter(
            f"the last argument is the {what}, but {text!r} is a file: add the {what}, or {option}."
        )
    return files, text
