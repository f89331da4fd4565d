"""Times several ways of doing the same work in turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Sample(NamedTuple):
    """One round of one way: its seconds, and by how many bytes the process grew at most; None where nothing tells."""

    seconds: float
    peak: int | None


class Spread(NamedTuple):
    """What came of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended: unlike the clock, not that of others."""
    try:
        import resource
    except ImportError:  # Windows
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_turns(
    ways: Mapping[Any, Callable[[], Any]], rounds: int, clock: Callable[[], float] = cpu_seconds, calls: int = 1
) -> dict[Any, list[Sample]]:
    """Seconds and memory of each way in each round. The ways are expected to be warm.

    Args:
        ways: name -> the work.
        rounds: in each one every way runs in turn, the order alternating.
        clock: processor time is right for one thread; with several take the clock of the wall.
        calls: how often the work is done inside one measurement.
    """
    samples: dict[Any, list[Sample]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in order:
            before = _mark_memory()
            start = clock()
            for _ in range(calls):
                ways[name]()
            seconds = (clock() - start) / calls
            samples[name].append(Sample(seconds, None if before is None else max(_memory("VmHWM") - before, 0)))
    return samples


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """slow / fast, round by round: above 1, `fast` is faster."""
    return Spread.of([one / other for one, other in zip(slow, fast)])


def _mark_memory() -> int | None:
    """Let the peak count from here; gives the bytes that are resident now."""
    try:
        _CLEAR.write_text("5")
        return _memory("VmRSS")
    except OSError:  # not a Linux, or not allowed here
        return None


def _memory(field: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
