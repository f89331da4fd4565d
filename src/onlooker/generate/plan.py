"""One call of generate, made ready: what every way of decoding needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from onlooker.generate.choose import Sampler
from onlooker.generate.filters import Filters
from onlooker.generate.output import Recorder
from onlooker.generate.stop import Stops


class Streamer(Protocol):
    """Anything that takes ids as they come: first the prompt [B, T], then one token a row [B]."""

    def put(self, value: Tensor, /) -> Any: ...

    def end(self) -> Any: ...


@dataclass
class Plan:
    """`fill` is what finished rows are filled with; `poll` how many steps apart the host asks whether all are."""

    max_new: int
    fill: int
    filters: Filters
    stops: Stops
    recorder: Recorder
    sampler: Sampler | None
    streamer: Streamer | None
    poll: int

    def filtered(self, ids: Tensor, logits: Tensor) -> Tensor:
        """The scores of this step after all filters, recorded where asked."""
        self.recorder.keep_logits(logits)
        if self.filters.active:
            logits = self.filters(ids, logits.float() if logits.dtype.itemsize < 4 else logits.clone())
        elif self.recorder.keeps_scores:
            logits = logits.float().clone()
        self.recorder.keep_scores(logits)
        return logits

    def finished(self, done: Tensor, ids: Tensor, tokens: Tensor) -> Tensor:
        """`done` [rows] with the rows that these tokens, the last of ids, finish."""
        ended = self.stops.ended(tokens)
        if ended is not None:
            done = done | ended
        return done | self.stops.told(ids, self.recorder.scores) if self.stops.asks_host else done
