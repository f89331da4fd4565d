"""Which rows make which batch: a function of the seed and the batch's number, so that training resumes at any place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader


class Batches:
    """Endless batches of a data set, shuffled anew in every epoch and shared out between processes.

    Args:
        rows: `len(rows)` and `rows[i]`. With a method `order(epoch, seed)` it says itself which rows come when, as a
            balanced mixture does; otherwise each comes once an epoch.
        collate: list of rows -> dictionary that a stage takes.
        batch_size: rows for this process.
        seed: of the shuffling.
        rank, world: this process, and how many there are.
        workers: processes that read ahead; 0 reads in this one. Rows that draw random numbers must draw them from
            their index, or a resumed run sees others.

    Raises:
        ValueError: no rows, also later when the data set's own order is empty.
    """

    def __init__(
        self,
        rows: Any,
        collate: Callable[[list[Any]], dict[str, Any]],
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        if not len(rows):
            raise ValueError("the data set is empty: every row was skipped, or there was none")
        self.rows, self.collate = rows, collate
        self.batch_size, self.seed, self.rank, self.world, self.workers = batch_size, seed, rank, world, workers

    def indices(self, start: int = 0) -> Iterator[list[int]]:
        """Rows of batch `start` and of all behind it, for this process.

        A batch may reach over the end of an epoch, so that none is short.
        """
        whole = self.batch_size * self.world
        stream = self._stream(start * whole)
        while True:
            drawn = list(itertools.islice(stream, whole))
            yield drawn[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def _stream(self, position: int) -> Iterator[int]:
        for epoch in itertools.count():
            order = self._order(epoch)
            yield from order[position:]
            position = max(0, position - len(order))

    def _order(self, epoch: int) -> Sequence[int]:
        if hasattr(self.rows, "order"):
            order = list(self.rows.order(epoch, self.seed))
            if not order:
                raise ValueError(f"the data set's own order has no rows in epoch {epoch}")
            return order
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.rows), generator=generator).tolist()

    def start(self, number: int = 0) -> Iterator[dict[str, Any]]:
        """Batch `number` and all behind it."""
        if not self.workers:
            return (self.collate([self.rows[i] for i in indices]) for indices in self.indices(number))
        loader = DataLoader(
            self.rows,
            batch_sampler=_From(self, number),
            collate_fn=self.collate,
            num_workers=self.workers,
            generator=torch.Generator().manual_seed(self.seed),  # or it would take a number from everybody's
        )
        return iter(loader)


class _From:
    def __init__(self, batches: Batches, number: int) -> None:
        self.batches, self.number = batches, number

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches.indices(self.number)
