"""Rows that are made when they are taken, each a function of its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Numbered(Sequence[Any]):
    """Row i is made by `row(first + i)`, so that data sets that do not overlap are easily had."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return self.row(self.first + index)

    def row(self, seed: int) -> Any:
        raise NotImplementedError
