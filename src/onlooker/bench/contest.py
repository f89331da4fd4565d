"""Two sides do the same work; what comes of it is compared first and timed then."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from onlooker.bench.settings import Settings
from onlooker.bench.table import ROWS
from onlooker.bench.timing import Spread, cpu_seconds, in_turns, ratio
from onlooker.bench.verdict import Scores, Verdict, judge


@dataclass(eq=False)
class Side:
    """One way of doing the work of a row.

    Args:
        work: what is timed.
        before: timed as well and taken off, where `work` cannot be done without it.
        result: gives what is compared, where `work` does not.
        scores: number of an answer, and its ids -> scores before each of them.
        exact: the same scores in float32; the peer's.
        peak: bytes that a process of its own took at most; without it the growth of this one is measured.
        weights: bytes of the model.
        reads: bytes of weights that the timed work reads, once for each of its steps.
    """

    work: Callable[[], Any]
    before: Callable[[], Any] | None = None
    result: Callable[[], Any] | None = None
    scores: Scores | None = None
    exact: Scores | None = None
    peak: Callable[[], int] | None = None
    weights: int | None = None
    reads: int | None = None


@dataclass
class Contest:
    """Rows that are measured in one go.

    Args:
        shape: what is run, and what was reduced.
        rows: name -> our side and theirs; a side that stands in several rows is timed once.
        dtype: what the lossless sides compute in.
    """

    shape: str
    rows: dict[str, tuple[Side, Side]]
    dtype: torch.dtype


@dataclass(frozen=True)
class Outcome:
    """One measured row.

    Attributes:
        ratio: theirs / ours.
        seconds, memory, weights: of each side; memory is what the process grew by at most while it worked (for a
            process of its own: all it took).
        bandwidth: bytes of weights that each side read in a second.
    """

    row: str
    shape: str
    ratio: Spread
    verdict: Verdict
    seconds: dict[str, float]
    memory: dict[str, int | None]
    weights: dict[str, int | None]
    bandwidth: dict[str, float] = field(default_factory=dict)

    @property
    def is_reached(self) -> bool:
        return self.verdict.agrees and self.ratio.median >= ROWS[self.row].bar

    def to_dict(self) -> dict[str, Any]:
        row = ROWS[self.row]
        return {
            "row": self.row,
            "what": row.what,
            "bar": row.bar,
            "is_lossless": row.is_lossless,
            "is_reached": self.is_reached,
            "shape": self.shape,
            "ratio": self.ratio._asdict(),
            **asdict(self.verdict),
            "seconds": self.seconds,
            "memory": self.memory,
            "weights": self.weights,
            "bandwidth": self.bandwidth,
        }


def measure(contest: Contest, settings: Settings) -> Iterator[Outcome]:
    """Compare what the sides give, which also warms them, then time them in turns."""
    sides = list(dict.fromkeys(side for pair in contest.rows.values() for side in pair))
    results = {side: (side.result or side.work)() for side in sides}
    verdicts = {name: _judge(name, *pair, results, contest.dtype) for name, pair in contest.rows.items()}
    ways: dict[Any, Callable[[], Any]] = {}
    for side in sides:
        ways[side] = side.work
        if side.before is not None:
            ways[side, "before"] = side.before
            side.before()
    clock = cpu_seconds if settings.threads == 1 else time.perf_counter
    samples = in_turns(ways, settings.rounds, clock)

    def seconds(side: Side) -> list[float]:
        whole = [sample.seconds for sample in samples[side]]
        if side.before is None:
            return whole
        rest = statistics.median(sample.seconds for sample in samples[side, "before"])
        return [max(one - rest, 1e-9) for one in whole]

    def peak(side: Side) -> int | None:
        if side.peak is not None:
            return side.peak()
        return max((sample.peak for sample in samples[side] if sample.peak is not None), default=None)

    for name, (ours, theirs) in contest.rows.items():
        both = {"onlooker": ours, "transformers": theirs}
        medians = {which: statistics.median(seconds(side)) for which, side in both.items()}
        yield Outcome(
            name,
            contest.shape,
            ratio(seconds(theirs), seconds(ours)),
            verdicts[name],
            medians,
            {which: peak(side) for which, side in both.items()},
            {which: side.weights for which, side in both.items()},
            {which: side.reads / medians[which] for which, side in both.items() if side.reads is not None},
        )


def _judge(name: str, ours: Side, theirs: Side, results: dict[Side, Any], dtype: torch.dtype) -> Verdict:
    return judge(
        results[ours],
        results[theirs],
        dtype=dtype,
        is_lossless=ROWS[name].is_lossless,
        our_scores=ours.scores,
        their_scores=theirs.scores,
        exact=theirs.exact,
    )
