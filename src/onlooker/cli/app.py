"""Puts the commands together, and turns what they raise into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from onlooker.cli import answers, benching, chatting, converting, fetching, quantizing, scores, training, world
from onlooker.cli.grouped import spread
from onlooker.cli.options import Debug
from onlooker.cli.reporting import FAILED, one_line, report, warnings_as_notes

COMMANDS: dict[str, Callable[..., Any]] = {
    "caption": answers.caption,
    "ask": answers.ask,
    "chat": chatting.chat,
    "match": scores.match,
    "rank": scores.rank,
    "fetch": fetching.fetch,
    "convert": converting.convert,
    "quantize": quantizing.quantize,
    "train": training.train,
    "world": world.world,
    "bench": benching.bench,
}

EXAMPLES = {
    "caption": "onlooker caption photo.jpg clip.mp4 --model LanguageBind/Video-LLaVA-7B-hf",
    "ask": "onlooker ask clip.mp4 'Why is this funny?' --stream --model LanguageBind/Video-LLaVA-7B-hf",
    "chat": "onlooker chat clip.mp4 --model LanguageBind/Video-LLaVA-7B-hf",
    "match": "onlooker match photo.jpg 'a cup of coffee' 'a cat' --model Salesforce/blip2-itm-vit-g",
    "rank": "onlooker rank photo.jpg 'Is it tea?' -c yes -c no --model Salesforce/blip2-opt-2.7b",
    "fetch": "onlooker fetch Salesforce/blip2-opt-2.7b",
}

USAGE, INTERRUPTED = 2, 130  # FAILED is 1

# typer carries its own copy of click since 0.27 and uses the package before that; both are reached this way.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def build_app() -> typer.Typer:
    """The Typer application with every command."""
    app = typer.Typer(
        name="onlooker",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top)
    for name, command in COMMANDS.items():
        example = f"For example: {EXAMPLES[name]}" if name in EXAMPLES else None
        app.command(name, epilog=example)(spread(command))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from onlooker import __version__

        typer.echo(f"onlooker {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
    debug: Debug = False,
) -> None:
    """Ask questions about your images and videos, with BLIP-2, InstructBLIP and Video-LLaVA.

    Without --model small models answer that know only coloured shapes that move; `onlooker fetch` brings real ones.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 all went well, 1 something failed (also when only one of many files did), 2 wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings_as_notes("--quiet" in arguments):
            return build_app()(args=arguments, prog_name="onlooker", standalone_mode=False) or 0
    except _UsageError as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("stopped", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): leave quietly, and keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - the outermost frame: everything becomes one line and an exit code
        return report(error, debug="--debug" in arguments)


def _usage(error: Any) -> int:
    message = str(error.format_message()).strip()
    if not message:  # no arguments at all: the help has been printed
        return USAGE
    command = error.ctx.command_path if getattr(error, "ctx", None) else "onlooker"
    typer.echo(f"error: {one_line(message)} Try `{command} --help`.", err=True)
    return USAGE
