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
