"""Times several ways of doing the same work in turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def compare(ways: dict[str, Callable[[], Any]], rounds: int = 9, calls: int = 1) -> dict[str, list[float]]:
    """Process CPU seconds of each way in each round; one unmeasured round goes first.

    Args:
        ways: name -> the work.
        rounds: measured rounds; in each one every way runs in turn, the order alternating.
        calls: how often the work is done inside one measurement.
    """
    for work in ways.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in order:
            start = time.process_time()
            for _ in range(calls):
                ways[name]()
            seconds[name].append((time.process_time() - start) / calls)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> tuple[float, float, float]:
    """Median, smallest and largest of slow / fast, round by round: above 1, `fast` is faster."""
    ratios = sorted(one / other for one, other in zip(seconds[slow], seconds[fast]))
    return statistics.median(ratios), ratios[0], ratios[-1]
