"""Reads and writes the cache of the hub: which commit a name stands for, and which files are there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from onlooker.errors import ModelNotFoundError

_REPO_ID = re.compile(r"[A-Za-z0-9_][\w.\-]*(/[A-Za-z0-9_][\w.\-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def repo_id(name_or_path: str | os.PathLike[str]) -> str:
    name = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or not _REPO_ID.fullmatch(name):
        raise ModelNotFoundError(
            f"There is no folder {name!r}, and it is not a hub id of the form 'owner/name'. Check the path."
        )
    return name


def not_found(name: str, cache: Cache, why: str) -> str:
    return (
        f"Model {name!r} (revision {cache.revision!r}) was not found: no folder of that name, nothing in the cache "
        f"{cache.root}, and {why}. Give a folder, or run `onlooker fetch {name}` once while online."
    )


class Cache:
    """One model at one revision in the hub's cache: `models--owner--name/{refs,snapshots,.no_exist}`."""

    def __init__(self, name: str, cache_dir: str | os.PathLike[str] | None, revision: str) -> None:
        from huggingface_hub import constants

        self.name = name
        self.revision = revision
        self.root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self.folder = self.root / ("models--" + name.replace("/", "--"))

    @property
    def commit(self) -> str | None:
        """The commit that the revision stood for when it was last downloaded."""
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        ref = self.folder / "refs" / self.revision
        return ref.read_text(encoding="utf-8").strip() if ref.is_file() else None

    @property
    def snapshot(self) -> Path | None:
        commit = self.commit
        return self.folder / "snapshots" / commit if commit else None

    def has_snapshot(self) -> bool:
        return self.snapshot is not None and self.snapshot.is_dir()

    def find(self, filename: str) -> Path | None:
        file = self.snapshot / filename if self.snapshot is not None else None
        return file if file is not None and file.is_file() else None

    def knows_absence(self, filename: str) -> bool:
        """Whether an earlier download showed that the model does not have this file."""
        commit = self.commit
        if commit is None:
            return False
        if (self.folder / ".no_exist" / commit / filename).is_file():
            return True
        listing = self._listing(commit)
        return listing.is_file() and filename not in json.loads(listing.read_text(encoding="utf-8"))

    def pin(self, commit: str, filenames: Iterable[str]) -> None:
        """Write down what the revision stands for and all file names the model has there."""
        listing = self._listing(commit)
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text(json.dumps(sorted(filenames)), encoding="utf-8")
        if not _COMMIT.fullmatch(self.revision):
            ref = self.folder / "refs" / self.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit, encoding="utf-8")

    def _listing(self, commit: str) -> Path:
        return self.folder / ".onlooker" / f"{commit}.json"
