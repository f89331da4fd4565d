"""Parts of rows that several formats share: conversations, captions, names of media."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onlooker.train.data.record import KINDS, Medium, Record, RowError, Turn

_MARKER = re.compile(r"<(image|video)>")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".gif"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"})


def kind_of(name: str) -> str | None:
    """Whether a file name is that of an "image" or a "video"; None for others."""
    suffix = os.path.splitext(name)[1].lower()
    return "video" if suffix in VIDEO_SUFFIXES else "image" if suffix in IMAGE_SUFFIXES else None


def require_mapping(row: Any) -> Mapping[str, Any]:
    """The row, when it is an object.

    Raises:
        RowError: it is something else.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"not an object but {type(row).__name__}")
    return row


def require_text(row: Mapping[str, Any], name: str) -> str:
    """A field that holds words.

    Raises:
        RowError: it is absent, empty or no text.
    """
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{name} is {'missing' if value is None else 'empty' if value == '' else repr(value)[:40]}")
    return value.strip()


def find_media(row: Mapping[str, Any], root: Path) -> tuple[Medium, ...]:
    """The media that a row names under "image", "video" (or their plurals) or "media".

    Raises:
        RowError: a file that is not there, or a name that does not tell what it is.
    """
    found = []
    for name in ("image", "images", "video", "videos", "media"):
        given = row.get(name)
        for source in given if isinstance(given, list) else [] if given is None else [given]:
            kind = name.rstrip("s") if name != "media" else kind_of(str(source))
            if not isinstance(source, str) or not source:
                raise RowError(f"{name} is {source!r}, not the name of a file")
            if kind not in KINDS:
                raise RowError(f"unknown kind of file: {source}")
            found.append(medium(kind, source, root))
    return tuple(found)


def medium(kind: str, source: str, root: Path) -> Medium:
    """A medium by its name, below `root` unless it is a URL or absolute.

    Raises:
        RowError: there is no such file.
    """
    if source.startswith(("http://", "https://", "data:")):
        return Medium(kind, source)
    path = root / source
    if not path.is_file():
        raise RowError(f"no such file: {source}")
    return Medium(kind, path)


def conversation(messages: Any, media: tuple[Medium, ...], row_id: str) -> Record:
    """A record of messages of people and models in turn, in the fields of LLaVA or of chat messages.

    Markers "<image>" and "<video>" are taken out of the texts: the family's template writes its own.

    Raises:
        RowError: roles out of turn, an empty answer, or markers and media that differ in number.
    """
    if not isinstance(messages, list) or not messages:
        raise RowError("conversations is no list of messages")
    system = ""
    said: list[str] = []
    for message in messages:
        message = require_mapping(message)
        role = _ROLES.get(str(message.get("from", message.get("role"))))
        value = message.get("value", message.get("content"))
        if role is None or not isinstance(value, str):
            raise RowError(f"a message has role {message.get('from', message.get('role'))!r} or no text")
        if role == "system" and not said:
            system = value.strip()
        elif role != ("user", "assistant")[len(said) % 2]:
            raise RowError(f"message {len(said)} is out of turn: {role}")
        else:
            said.append(value)
    if len(said) < 2 or len(said) % 2:
        raise RowError(f"{len(said)} messages: every question needs an answer")
    markers = [marker for text in said for marker in _MARKER.findall(text)]
    if markers and sorted(markers) != sorted(medium.kind for medium in media):
        raise RowError(f"markers {' '.join(markers)} for {len(media)} media")
    texts = [" ".join(_MARKER.sub(" ", text).split(" ")).strip() for text in said]
    turns = tuple(Turn(question, answer) for question, answer in zip(texts[::2], texts[1::2]))
    for number, turn in enumerate(turns):
        if not turn.answer:
            raise RowError(f"answer {number} is empty")
    return Record(row_id, media, turns, system)


def plain(row: Mapping[str, Any], media: tuple[Medium, ...], row_id: str) -> Record:
    """A record of a flat row: conversations, turns, question and answer, or a caption.

    Raises:
        RowError: none of these, or one that is not whole.
    """
    for name in ("conversations", "messages"):
        if name in row:
            return conversation(row[name], media, row_id)
    if not media:
        raise RowError("no media: give image, video or media")
    if "turns" in row:
        turns = row["turns"]
        if not isinstance(turns, list) or not turns:
            raise RowError("turns is no list")
        return Record(row_id, media, tuple(_turn(turn) for turn in turns))
    if "question" in row:
        question, answers = require_text(row, "question"), row.get("answers")
        several = tuple(str(answer) for answer in answers) if isinstance(answers, list) else ()
        answer = require_text(row, "answer") if "answer" in row or not several else several[0]
        return Record(row_id, media, (Turn(question, answer, several),))
    name = next((name for name in ("caption", "text") if name in row), "caption")
    return Record(row_id, media, (Turn("", require_text(row, name)),))


def _turn(given: Any) -> Turn:
    if isinstance(given, Mapping):
        return Turn(require_text(given, "question"), require_text(given, "answer"))
    if isinstance(given, list) and len(given) == 2 and all(isinstance(text, str) and text.strip() for text in given):
        return Turn(given[0].strip(), given[1].strip())
    raise RowError(f"a turn is {str(given)[:40]!r}, not [question, answer]")
