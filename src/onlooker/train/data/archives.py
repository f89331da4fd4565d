"""Readers of files that lie side by side: webdataset tars, and folders with .txt sidecars."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from onlooker.train.data.record import BadRow, Medium, Record, Records, RowError, TarMember, Turn
from onlooker.train.data.rows import kind_of, plain, require_mapping

_TEXTS = (".txt", ".caption", ".text")


def read_tar(path: Path, records: Records, root: Path) -> None:
    """A webdataset tar: files whose names agree up to the first dot are one sample, a medium and its .txt or .json.

    Only the table of contents is read here; media are read from the tar when a row is loaded.
    """
    samples: dict[str, dict[str, TarMember]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for item in tar:
                if item.isfile():
                    folder, name = os.path.split(item.name)
                    stem, dot, suffix = name.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    member = TarMember(path, item.name, item.offset_data, item.size)
                    samples.setdefault(key, {})[dot + suffix.lower()] = member
    except (tarfile.TarError, EOFError) as error:
        records.bad.append(BadRow(str(path), "end", f"the tar is cut short or damaged: {error}"))
    records.read(str(path), ((key, partial(_sample, key, parts)) for key, parts in samples.items()))


def _sample(key: str, parts: dict[str, TarMember]) -> Record:
    kinds = {suffix: kind for suffix in parts if (kind := kind_of("x" + suffix))}
    if not kinds:
        raise RowError("no picture or video")
    media = tuple(Medium(kinds[suffix], parts[suffix]) for suffix in sorted(kinds))
    try:
        if ".json" in parts:
            row = require_mapping(json.loads(parts[".json"].read()))
            if any(name in row for name in ("conversations", "messages", "turns", "question", "caption", "text")):
                return plain(row, media, str(row.get("id", key)))
        text = next((parts[suffix].read().decode() for suffix in _TEXTS if suffix in parts), None)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RowError(f"text cannot be read: {error}") from error
    except (OSError, tarfile.ReadError) as error:
        raise RowError(f"the tar is cut short: {error}") from error
    if text is None or not text.strip():
        raise RowError("no text" if text is None else "empty text")
    return Record(key, media, (Turn("", text.strip()),))


def read_folder(path: Path, records: Records, root: Path) -> None:
    """A folder, with those inside it: each picture or clip has its caption in a .txt file of the same name."""
    records.read(str(path), _pairs(path))


def _pairs(folder: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    named = {file.with_suffix("") for file in files if kind_of(file.name)}
    for file in files:
        name = str(PurePosixPath(file.relative_to(folder)))
        if kind := kind_of(file.name):
            yield name, partial(_captioned, name, Medium(kind, file), file.with_suffix(".txt"))
        elif file.suffix == ".txt" and file.with_suffix("") not in named:
            yield name, partial(_lonely, name)


def _captioned(name: str, medium: Medium, sidecar: Path) -> Record:
    try:
        text = sidecar.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise RowError(f"no {sidecar.name} beside it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"{sidecar.name} cannot be read: {error}") from error
    if not text:
        raise RowError(f"{sidecar.name} is empty")
    return Record(name, (medium,), (Turn("", text),))


def _lonely(name: str) -> Record:
    raise RowError("no picture or video beside it")
