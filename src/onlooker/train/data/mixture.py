"""Several data sets as one, drawn in balance: a set four times as large is drawn twice as often.

InstructBLIP, arXiv:2305.06500, section 3.3: data set d of size S_d has probability sqrt(S_d) / sum of sqrt(S).
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


class Mixture(Sequence[Any]):
    """Data sets joined end to end, with an order in which they are drawn in balance.

    Args:
        parts: data sets with `len()` and rows by number.
        weights: how often each is drawn, in place of the root of its size.
        power: of the sizes: 0.5 as InstructBLIP, 1 as if they were one, 0 all alike.

    Raises:
        ValueError: no data sets, an empty one, or weights that do not fit.
    """

    def __init__(self, parts: Sequence[Any], weights: Sequence[float] | None = None, power: float = 0.5) -> None:
        sizes = [len(part) for part in parts]
        if not sizes or not min(sizes):
            raise ValueError(f"the data sets have {sizes or 'no'} rows; each needs at least one")
        drawn = np.asarray(weights if weights is not None else np.array(sizes, float) ** power, float)
        if drawn.shape != (len(sizes),) or not (drawn >= 0).all() or not drawn.sum():
            raise ValueError(f"weights {list(drawn)} for {len(sizes)} data sets: give one from 0 up for each")
        self.parts, self.sizes = list(parts), sizes
        self.probabilities = drawn / drawn.sum()
        self._starts = [0, *itertools.accumulate(sizes)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        part = bisect.bisect_right(self._starts, index) - 1
        return self.parts[part][index - self._starts[part]]

    def order(self, epoch: int, seed: int) -> list[int]:
        """Rows of one epoch, as many as there are in all: a function of its arguments, so that a run can resume.

        Within a data set no row comes twice before all have come once.
        """
        rng = np.random.default_rng([seed, epoch])
        choices = rng.choice(len(self.sizes), size=len(self), p=self.probabilities)
        rows = [self._shuffled(part, rng) for part in range(len(self.sizes))]
        return [next(rows[part]) for part in choices.tolist()]

    def _shuffled(self, part: int, rng: np.random.Generator) -> Iterator[int]:
        own = np.random.default_rng(rng.integers(2**63))
        while True:
            yield from (self._starts[part] + own.permutation(self.sizes[part])).tolist()
