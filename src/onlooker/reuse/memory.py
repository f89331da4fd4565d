"""Entries in memory, the least recently used ones given up before a budget of bytes is exceeded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from onlooker.reuse.entry import Entry


class Memory:
    """Safe to use from several threads.

    Args:
        budget: bytes; 0 keeps nothing.

    Raises:
        ValueError: a budget below 0.
    """

    def __init__(self, budget: int) -> None:
        if budget < 0:
            raise ValueError(f"memory_bytes is {budget}; give the bytes to use at most, 0 to keep nothing")
        self.budget = budget
        self.bytes = 0
        self.evicted = 0  # entries given up for others
        self.refused = 0  # entries larger than the whole budget
        self._entries: OrderedDict[str, tuple[Entry, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Entry | None:
        with self._lock:
            found = self._entries.get(name)
            if found is None:
                return None
            self._entries.move_to_end(name)
            return found[0]

    def put(self, name: str, entry: Entry) -> bool:
        """Keep an entry, in place of one of the same name; False when it is larger than the whole budget."""
        size = entry.nbytes
        with self._lock:
            self._drop(name)
            if size > self.budget:
                self.refused += 1
                return False
            while self.bytes + size > self.budget:  # room first, so that the budget holds at every moment
                self._drop(next(iter(self._entries)))
                self.evicted += 1
            self._entries[name] = (entry, size)
            self.bytes += size
            return True

    def drop(self, name: str) -> None:
        with self._lock:
            self._drop(name)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def _drop(self, name: str) -> None:
        found = self._entries.pop(name, None)
        if found is not None:
            self.bytes -= found[1]

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)
