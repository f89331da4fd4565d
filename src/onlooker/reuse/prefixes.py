"""Which beginnings of prompts were run before, and how far a new prompt agrees with one of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from onlooker.reuse.cache import Cache
from onlooker.reuse.entry import Entry
from onlooker.reuse.fingerprint import digest

KIND = "prefix"


@dataclass(frozen=True)
class Sight:
    """The visual tokens of one medium in a prompt.

    Attributes:
        key: what the medium is, by content, and whatever else its tokens depend on.
        tokens: positions that it takes.
    """

    key: str
    tokens: int


#: a prompt: ids of words, and sights
Items = Sequence[int | Sight]


def positions(items: Items) -> int:
    """Positions that they take in the language model."""
    return sum(item.tokens if isinstance(item, Sight) else 1 for item in items)


def until_sights(items: Items) -> int:
    """How many items there are up to the last sight, itself included; 0 without any."""
    return max((number + 1 for number, item in enumerate(items) if isinstance(item, Sight)), default=0)


class Prefixes:
    """Beginnings of prompts in a cache. What can be cut short serves every prompt that begins as it does.

    Only beginnings with a medium in them are kept: those of words alone are run in no time. A beginning that is part
    of a longer one is given up for it. In the folder only beginnings that end with a medium are found again.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[tuple[str, str], list[tuple[int | Sight, ...]]] = {}  # by model and first sight
        self._lock = threading.Lock()

    def find(self, model: str, items: Items, device: torch.device | None = None) -> tuple[Entry, int] | None:
        """The entry that agrees longest with a prompt, and how many of the items that is.

        The last item is never among them: it has to be run for what comes next.
        """
        root = self._root(model, items)
        if root is None:
            return None
        most = tuple(items[:-1])
        whole = until_sights(most)
        with self._lock:
            known = list(self._known.get(root, ()))
        best = max((row for row in known if self._holds(model, row)), key=lambda row: _agreement(row, most), default=())
        agreed = _agreement(best, most)
        if agreed < whole and (found := self._get(model, most[:whole], device)):  # the folder may know more
            self._remember(root, most[:whole])
            return found, whole
        if agreed >= until_first(best) and (found := self._get(model, best, device)):
            return found, agreed
        return None

    def keep(self, model: str, items: Items, entry: Entry, *, to_folder: bool = False) -> None:
        """Keep what the model made of the beginning of a prompt."""
        root = self._root(model, items)
        if root is None:
            return
        needless = self._remember(root, tuple(items))
        if entry.nbytes <= self._cache.memory.budget:
            for shorter in needless:  # first, so that nothing else has to make room
                self._cache.drop(KIND, _key(model, shorter))
        self._cache.put(KIND, _key(model, items), entry, to_folder=to_folder)

    def give_up(self, model: str, items: Items, newer: Items) -> None:
        """Forget a beginning that something newer takes the place of, though it does not begin with it."""
        root = self._root(model, items)
        if root is None or tuple(items) == tuple(newer):
            return
        with self._lock:
            self._known[root] = [row for row in self._known.get(root, ()) if row != tuple(items)]
        self._cache.drop(KIND, _key(model, items))

    def knows(self, model: str, items: Items) -> bool:
        """Whether memory holds something that begins with these items."""
        root = self._root(model, items)
        with self._lock:
            known = list(self._known.get(root, ())) if root else []
        return any(_agreement(row, items) == len(items) and self._holds(model, row) for row in known)

    def _root(self, model: str, items: Items) -> tuple[str, str] | None:
        first = next((item for item in items if isinstance(item, Sight)), None)
        return None if first is None else (model, first.key)

    def _get(self, model: str, row: Items, device: torch.device | None) -> Entry | None:
        return self._cache.get(KIND, _key(model, row), device)

    def _holds(self, model: str, row: Items) -> bool:
        return f"{KIND}-{_key(model, row)}" in self._cache.memory

    def _remember(self, root: tuple[str, str], row: tuple[int | Sight, ...]) -> list[tuple[int | Sight, ...]]:
        """Note a row that goes into the cache; gives those that it makes needless, and forgets what is gone."""
        with self._lock:
            known = self._known.get(root, [])
            shorter = [each for each in known if len(each) < len(row) and _agreement(each, row) == len(each)]
            kept = [each for each in known if each != row and each not in shorter and self._holds(root[0], each)]
            if len(self._known) > 2 * len(self._cache.memory) + 64:  # most was given up long ago
                held = {each: [row for row in rows if self._holds(each[0], row)] for each, rows in self._known.items()}
                self._known = {each: rows for each, rows in held.items() if rows}
            self._known[root] = [*kept, row]
            return shorter


def until_first(items: Items) -> int:
    """How many items there are up to the first sight, itself included."""
    return next((number + 1 for number, item in enumerate(items) if isinstance(item, Sight)), len(items) + 1)


def _agreement(row: Items, other: Items) -> int:
    """How many items both begin with."""
    return next((place for place, (one, two) in enumerate(zip(row, other)) if one != two), min(len(row), len(other)))


def _key(model: str, items: Items) -> str:
    return digest(model, [[item.key, item.tokens] if isinstance(item, Sight) else item for item in items])
