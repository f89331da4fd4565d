"""Counts of right answers: the share, the interval in which the true share lies, and what a bar asks of a sample."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_Z = 1.959964  # 95 % of a normal distribution lie between -_Z and _Z


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    n: int

    @classmethod
    def of(cls, marks: Iterable[bool]) -> Share:
        """Count what is true."""
        values = list(marks)
        return cls(sum(map(bool, values)), len(values))

    @property
    def value(self) -> float:
        return self.right / max(1, self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the true share (Wilson 1927), for a sample whose members do not depend on each other."""
        if not self.n:
            return 0.0, 1.0
        square = _Z**2 / self.n
        middle = (self.value + square / 2) / (1 + square)
        half = _Z / (1 + square) * math.sqrt(self.value * (1 - self.value) / self.n + square / (4 * self.n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_dict(self) -> dict[str, Any]:
        """As the JSON holds it."""
        low, high = self.interval
        shares = {"share": self.value, "low": low, "high": high}
        return {"right": self.right, "n": self.n, **{name: round(value, 4) for name, value in shares.items()}}


def together(shares: Iterable[Share]) -> Share:
    """The share in several samples as one."""
    parts = list(shares)
    return Share(sum(part.right for part in parts), sum(part.n for part in parts))


def fewest(bar: float, n: int, risk: float = 0.01) -> int:
    """What to ask of a sample of n so that a model whose true share is `bar` passes in all but a part of samples.

    The lowest number that at most `risk` of all samples of such a model stay below (binomial).
    """
    below = 0.0
    for count in range(n + 1):
        below += _binomial(count, n, bar)
        if below > risk:
            return count
    return n


def most(bar: float, n: int, risk: float = 0.01) -> int:
    """The same from above: what a model whose true share is `bar` exceeds in at most `risk` of all samples of n."""
    return n - fewest(1 - bar, n, risk)


def _binomial(count: int, n: int, share: float) -> float:
    return math.comb(n, count) * share**count * (1 - share) ** (n - count)
