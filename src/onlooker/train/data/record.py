"""The one kind of row that every data format is read into, and rows that could not be."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

KINDS = ("image", "video")


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar: where its bytes stand, to be read when they are needed."""

    path: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            OSError: the tar is gone.
            tarfile.ReadError: the tar ends before the member does.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise tarfile.ReadError(f"{self.path.name} ends inside {self.name}")
        return data


@dataclass(frozen=True, eq=False)
class Medium:
    """A picture or a clip, not loaded yet."""

    kind: str  # one of KINDS
    source: Any  # path, URL, bytes, TarMember, or an array: [h, w, 3], for a clip [F, h, w, 3]

    @property
    def name(self) -> str:
        """What messages call it."""
        if isinstance(self.source, TarMember):
            return f"{self.source.path.name}:{self.source.name}"
        return str(self.source) if isinstance(self.source, (str, Path)) else f"{self.kind} in memory"


@dataclass(frozen=True)
class Turn:
    """What is asked, and the answer to learn; a caption is the answer to an empty question."""

    question: str
    answer: str
    answers: tuple[str, ...] = ()  # all that count as right, where a data set has several


@dataclass(frozen=True)
class Record:
    """One row: media and what is said about them."""

    id: str
    media: tuple[Medium, ...]
    turns: tuple[Turn, ...]
    system: str = ""

    @property
    def caption(self) -> str | None:
        """The caption of a row that has one and no questions."""
        is_caption = len(self.turns) == 1 and not self.turns[0].question
        return self.turns[0].answer if is_caption else None


@dataclass(frozen=True)
class BadRow:
    """A row that was skipped, and why."""

    file: str
    row: int | str  # number of the row from 0, line from 1, or the key of a sample
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


class RowError(ValueError):
    """What a reader raises inside to skip one row."""


@dataclass
class Records(Sequence[Record]):
    """The rows of a data set, and those that were skipped."""

    name: str
    rows: list[Record] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.rows)

    def report(self, shown: int = 5) -> str:
        """What was skipped and why, in a few lines."""
        total = len(self.rows) + len(self.bad)
        lines = [f"{self.name}: {len(self.bad)} of {total} rows skipped"]
        lines += [f"  {bad}" for bad in self.bad[:shown]]
        if len(self.bad) > shown:
            rest = Counter(bad.reason.split(":")[0] for bad in self.bad[shown:])
            lines.append("  and " + ", ".join(f"{count} x {reason}" for reason, count in rest.most_common(5)))
        return "\n".join(lines)

    def read(self, file: str, rows: Iterable[tuple[int | str, Callable[[], Record]]]) -> None:
        """Read rows one by one; those that raise RowError are put among the bad ones."""
        for row, make in rows:
            try:
                self.rows.append(make())
            except RowError as error:
                self.bad.append(BadRow(file, row, str(error)))
