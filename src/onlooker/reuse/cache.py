"""`Cache`: memory in front of an optional folder, with what it did made visible."""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from onlooker.reuse.entry import Entry
from onlooker.reuse.folder import Folder
from onlooker.reuse.memory import Memory

GIB = 2**30


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds, and what it did since it was made.

    Attributes:
        hits, misses: look-ups by kind: "source" (a file that was read before), "features" (of the vision part),
            "prefix" (keys and values of a prompt).
        folder_hits: those hits that came from the folder.
        tokens_reused: positions of prompts that the language model did not have to run again.
        entries, bytes, memory_bytes: kept in memory now, and the budget.
        evicted, refused: entries given up for others, and entries larger than the whole budget.
        folder_used, folder_bytes: bytes on disk now, and the budget; 0 without a folder.
    """

    hits: dict[str, int]
    misses: dict[str, int]
    folder_hits: int
    tokens_reused: int
    entries: int
    bytes: int
    memory_bytes: int
    evicted: int
    refused: int
    folder_used: int
    folder_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Cache:
    """Keeps entries by kind and key, in memory and, where a folder is given, on disk; safe to share between threads.

    Args:
        memory_bytes: budget of what is kept in memory, on whatever device it lies; 0 keeps nothing there.
            `default_budget` of the CPU when not given.
        folder: keep entries there, too, so that they outlive the process. Off when not given.
        folder_bytes: budget of the folder.

    Raises:
        ValueError: a budget below 0.
    """

    def __init__(
        self,
        memory_bytes: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        folder_bytes: int = 32 * GIB,
    ) -> None:
        self.memory = Memory(default_budget(torch.device("cpu")) if memory_bytes is None else memory_bytes)
        self.folder = None if folder is None else Folder(folder, folder_bytes)
        self._lock = threading.Lock()
        self._hits: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()
        self._folder_hits = self._tokens = 0
        self._has_warned = False

    @property
    def is_on(self) -> bool:
        """Whether anything can be kept at all."""
        return self.memory.budget > 0 or self.folder is not None

    def get(self, kind: str, key: str, device: torch.device | None = None) -> Entry | None:
        """What was kept under a key.

        Args:
            kind: a word of small letters.
            key: hexadecimal digest.
            device: where tensors from the folder are put; what is in memory stays where it is.
        """
        name = f"{kind}-{key}"
        found = self.memory.get(name)
        if found is None and self.folder is not None:
            found = self.folder.get(name)
            if found is not None:
                if device is not None:
                    found = replace(found, tensors={key: each.to(device) for key, each in found.tensors.items()})
                self.memory.put(name, found)
                with self._lock:
                    self._folder_hits += 1
        with self._lock:
            (self._misses if found is None else self._hits)[kind] += 1
        return found

    def put(self, kind: str, key: str, entry: Entry, *, to_folder: bool = True) -> None:
        """Keep an entry, as far as the budgets allow."""
        name = f"{kind}-{key}"
        self.memory.put(name, entry)
        if self.folder is None or not to_folder:
            return
        try:
            self.folder.put(name, entry)
        except OSError as error:  # a full disk must not cost the answer
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(f"cannot write to the cache folder {self.folder.path}: {error}", stacklevel=2)

    def drop(self, kind: str, key: str) -> None:
        """Forget an entry in memory; the folder keeps it."""
        self.memory.drop(f"{kind}-{key}")

    def clear(self, *, folder: bool = False) -> None:
        """Forget everything in memory, and with `folder` delete the entries on disk."""
        self.memory.clear()
        if folder and self.folder is not None:
            self.folder.clear()

    def count_tokens(self, count: int) -> None:
        """Say that so many positions did not have to be run."""
        with self._lock:
            self._tokens += count

    def stats(self) -> CacheStats:
        """What is kept, and what was found and missed so far."""
        memory, folder = self.memory, self.folder
        with self._lock:
            return CacheStats(
                dict(self._hits),
                dict(self._misses),
                self._folder_hits,
                self._tokens,
                len(memory),
                memory.bytes,
                memory.budget,
                memory.evicted,
                memory.refused,
                0 if folder is None else folder.bytes,
                0 if folder is None else folder.budget,
            )

    def __repr__(self) -> str:
        disk = "" if self.folder is None else f", {self.folder.path}"
        return f"Cache({self.memory.bytes / GIB:.2f} of {self.memory.budget / GIB:.2f} GiB{disk})"


def default_budget(device: torch.device) -> int:
    """Bytes to use where nobody said how many: 2 GiB, less where memory is short.

    2 GiB hold the keys and values of one clip of eight frames for a language model of 7 B. Never more than an eighth
    of a machine's memory, or a quarter of what is free on a GPU.
    """
    if device.type == "cuda":
        return min(2 * GIB, torch.cuda.mem_get_info(device)[0] // 4)
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a Unix
        return GIB
    return min(2 * GIB, total // 8)
