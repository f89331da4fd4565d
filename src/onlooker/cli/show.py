"""What people and programs read: lines and JSON on stdout, progress and notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def line(text: str) -> None:
    typer.echo(text)


def record(values: dict[str, Any]) -> None:
    """One JSON object on a line of its own."""
    typer.echo(json.dumps(values, ensure_ascii=False))


def note(text: str, quiet: bool = False) -> None:
    """Something worth knowing that is no result: stderr."""
    if not quiet:
        typer.echo(text, err=True)


@contextmanager
def progress(title: str, *, shown: bool, as_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, moved by calling what it gives with (done, total); nothing where stderr is no terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counts = DownloadColumn() if as_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counts, TimeRemainingColumn())
    # Only a terminal's stdout may go through the bar's console: a file or a pipe must get its lines itself.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def gigabytes(count: int) -> str:
    """Bytes as people read them."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
