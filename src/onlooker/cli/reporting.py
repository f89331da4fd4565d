"""Says what went wrong, or nearly: one line of stderr, and the traceback for who asks."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from onlooker.errors import OnlookerError

FAILED = 1


def report(error: BaseException, *, debug: bool, about: str = "") -> int:
    """Say on one line of stderr what went wrong; with `debug` the traceback stands in front.

    Args:
        about: the file that it happened to, named unless the message names it itself.

    Returns:
        The exit code.
    """
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    text = one_line(str(error)) or type(error).__name__
    if not isinstance(error, (OnlookerError, ValueError, OSError)):
        text = f"unexpected {type(error).__name__}: {text} (--debug shows where)"
    typer.echo(f"error: {about + ': ' if about and about not in text else ''}{text}", err=True)
    return FAILED


@contextmanager
def warnings_as_notes(quiet: bool) -> Iterator[None]:
    """What the library warns of, such as a damaged clip, becomes a line of stderr without the code it comes from."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if not quiet:
            typer.echo(f"warning: {one_line(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=UserWarning)
        warnings.showwarning = show
        yield


def one_line(text: str) -> str:
    """The text with its line breaks and runs of blanks made single blanks."""
    return " ".join(text.split())
