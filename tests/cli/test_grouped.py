"""Groups of options: their fields become options of the command, and come back as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from onlooker.cli.grouped import spread


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, typer.Option("--size")] = 3


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: Annotated[str, typer.Option("--name")] = "x"
    inner: Inner
    loud: Annotated[bool, typer.Option("--loud")] = False


def made(arguments):
    seen = []

    def command(word: Annotated[str, typer.Argument()], *, group: Outer, more: bool = False) -> None:
        """Say something."""
        seen.append((word, group, more))

    app = typer.Typer()
    app.command()(spread(command))
    app(args=arguments, standalone_mode=False)
    return seen


def test_options_of_groups_arrive_in_their_groups():
    assert made(["hello"]) == [("hello", Outer(inner=Inner()), False)]
    given = ["hello", "--size", "5", "--loud", "--more", "--name", "y"]
    assert made(given) == [("hello", Outer(name="y", inner=Inner(5), loud=True), True)]


def test_a_command_that_takes_an_option_twice_is_refused():
    def command(group: Inner, size: int = 1) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'size'"):
        spread(command)
