"""How large the shared cache is, may become, and when it gives memory back."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 64  # columns are taken in steps of so many, so that few requests make the buffers anew


@dataclass(frozen=True)
class Room:
    """Rows, positions of each, and positions of each one's source (of an encoder)."""

    rows: int = 0
    columns: int = 0
    source: int = 0

    def beside(self, other: Room) -> Room:
        """For the rows of both."""
        return Room(self.rows + other.rows, max(self.columns, other.columns), max(self.source, other.source))

    def or_more(self, other: Room) -> Room:
        """The larger of both in every way."""
        return Room(max(self.rows, other.rows), max(self.columns, other.columns), max(self.source, other.source))


@dataclass(frozen=True)
class Limits:
    """What the engine may take.

    Args:
        max_rows: rows of a step.
        max_bytes: of all caches together, also while they are copied; None does not limit them.
        position_bytes: of one position of one row.
        source_bytes: of one position of a row's source: its keys and values, and the encoder's output they are made of.
        layers: of the cache, which are copied one after the other.
    """

    max_rows: int
    max_bytes: int | None
    position_bytes: int
    source_bytes: int
    layers: int

    def size(self, room: Room) -> int:
        """Bytes."""
        return room.rows * (room.columns * self.position_bytes + room.source * self.source_bytes)

    def grown(self, now: Room, wanted: Room, arriving: int = 0) -> Room | None:
        """The room to make when there has to be at least `wanted`; None when there is no memory for it.

        Args:
            arriving: bytes of the caches that rows come from.
        """
        rounded = Room(
            min(1 << (wanted.rows - 1).bit_length(), self.max_rows), _blocks(wanted.columns), _blocks(wanted.source)
        )
        for room in (now.or_more(rounded), now.or_more(wanted), wanted):
            copied = 0 if room == now else self.size(now) // self.layers
            if self.max_bytes is None or self.size(room) + copied + arriving <= self.max_bytes:
                return room
        return None

    def shrunk(self, now: Room, wanted: Room) -> Room | None:
        """A smaller room, when half of the memory or more is not needed any longer."""
        rounded = Room(1 << (wanted.rows - 1).bit_length(), _blocks(wanted.columns), _blocks(wanted.source))
        smaller = Room(*map(min, zip(_fields(now), _fields(rounded))))
        return smaller if 2 * self.size(smaller) <= self.size(now) else None


def _fields(room: Room) -> tuple[int, int, int]:
    return room.rows, room.columns, room.source


def _blocks(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
