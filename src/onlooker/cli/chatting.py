"""`onlooker chat`: questions and answers in turn, from a terminal or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlooker.cli import options as opt
from onlooker.cli.builtin import ANSWERS
from onlooker.cli.frames import Clips
from onlooker.cli.reporting import FAILED, report
from onlooker.cli.running import Checkpoint
from onlooker.cli.show import note, record
from onlooker.errors import OnlookerError

if TYPE_CHECKING:
    from onlooker.pipeline import Chat, Onlooker

_HELP = """\
/image FILE   show a picture      /reset   forget everything
/video FILE   show a video        /quit    leave (so does Ctrl-D)
Anything else is a question; Ctrl-C stops an answer."""


def chat(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE...]", help="Images and videos to talk about: paths or URLs.")
    ] = None,
    *,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="A sentence in front of everything.")
    ] = None,
    source: opt.Source,
    cache_folder: opt.CacheFolder = None,
    frames: Clips,
    words: opt.LongWords,
    telling: opt.Telling,
) -> int:
    """Talk about images and videos; each answer knows what was said before.

    Questions are read line by line. /image FILE and /video FILE show more, /reset forgets everything, /quit leaves.
    """
    if "-" in (files or []):
        raise typer.BadParameter("questions come from stdin, so a file cannot: give its path.")
    generation, clip = words.keywords(), frames.keywords()
    checkpoint = Checkpoint(source, telling, ANSWERS, cache_folder=cache_folder)
    eyes = checkpoint.eyes
    talk = _Talk(eyes, eyes.chat(system=system, **clip), generation, telling)
    for name in files or []:
        talk.show(name)
    for text in _lines():
        if not talk.take(text):
            break
    checkpoint.say_reuse()
    return FAILED if talk.has_failed else 0


def _lines() -> Iterator[str]:
    """What is typed, or what comes through a pipe, line by line."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield from sys.stdin
        return
    import readline  # noqa: F401  arrow keys and history for input()

    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return


class _Talk:
    """One conversation, line by line; what goes wrong is told, and the talk goes on."""

    def __init__(self, eyes: Onlooker, chat: Chat, generation: dict[str, Any], telling: opt.Telling) -> None:
        self._eyes, self._chat, self._generation, self._telling = eyes, chat, generation, telling
        self._shown = 0
        self.has_failed = False

    def take(self, text: str) -> bool:
        """Do what a line says; False to leave."""
        text = text.strip()
        command, _, rest = text.partition(" ")
        if command in ("/quit", "/exit"):
            return False
        if command in ("/image", "/video"):
            self.show(rest.strip().strip("'\""), command)
        elif command == "/reset":
            self._chat.reset()
            self._shown = 0
            note("everything is forgotten", self._telling.quiet)
        elif command in ("/help", "/?"):
            note(_HELP)
        elif text.startswith("/") and not os.path.exists(command):
            self._fail(ValueError(f"there is no {command}; there are /image, /video, /reset, /help and /quit"))
        elif text:
            self._ask(text)
        return True

    def show(self, name: str, command: str = "/image") -> None:
        """Show a file, whichever of the two commands was used: its content says what it is."""
        if not name:
            self._fail(ValueError(f"{command} needs a file"))
            return
        try:
            medium = self._eyes.encode(os.path.expanduser(name), **self._chat.clip)
            if self._shown and not self._eyes.takes_several:
                self._chat.reset()
                note(f"a new conversation: {self._eyes.family} talks about one picture or clip", self._telling.quiet)
            self._chat.show(medium)
        except (OnlookerError, OSError, ValueError) as error:
            self._fail(error, name)
            return
        self._shown += 1
        frames = "" if medium.frames is None else f", {len(medium.frames.indices)} frames"
        note(f"shown: {name} ({medium.kind}{frames})", self._telling.quiet)

    def _ask(self, question: str) -> None:
        try:
            with self._chat.ask(question, stream=True, **self._generation) as pieces:
                self._print(pieces)
                answer = pieces.answer
        except (OnlookerError, OSError, ValueError) as error:
            self._fail(error)
            return
        if self._telling.as_json:
            record({"question": question, **answer.to_dict()})

    def _print(self, pieces: Any) -> None:
        try:
            for piece in pieces:
                if not self._telling.as_json:
                    typer.echo(piece, nl=False)
        except KeyboardInterrupt:
            pieces.close()
        if not self._telling.as_json:
            typer.echo()

    def _fail(self, error: Exception, about: str = "") -> None:
        self.has_failed = True
        report(error, debug=self._telling.debug, about=about)
