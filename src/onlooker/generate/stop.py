"""When a row is finished: an end token, a text, a clock, or the caller's own word."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from onlooker.generate.config import GenerationConfig

Criterion = Callable[[Tensor, Any], Any]


class Decodes(Protocol):
    """The part of a tokenizer that stop strings need."""

    def decode(self, token_ids: Any, /) -> str: ...


class Stops:
    """Everything that can finish a row but the length limit.

    Args:
        criteria: callables (ids [rows, L], scores so far or None) -> bool, or a bool for each row.
        prompt: positions of the ids that are prompt; stop strings are looked for behind them.

    Raises:
        ValueError: stop_strings without a tokenizer.
    """

    def __init__(
        self,
        config: GenerationConfig,
        criteria: Criterion | Iterable[Criterion] | None,
        tokenizer: Decodes | None,
        prompt: int,
    ) -> None:
        self.eos = frozenset(config.eos_ids)
        self._eos = config.eos_ids
        self._eos_tensor: Tensor | None = None
        self.eos_count = len(self._eos)
        self._deadline = None if config.max_time is None else time.monotonic() + config.max_time
        texts = config.stop_strings
        self._texts: list[str] = [texts] if isinstance(texts, str) else list(texts or ())
        if self._texts and tokenizer is None:
            raise ValueError("stop_strings needs the tokenizer: generate(..., stop_strings=[...], tokenizer=tokenizer)")
        self._tokenizer = tokenizer
        # Every token but special ones holds a byte at least; the margin is for those.
        self._window = max((len(text.encode()) for text in self._texts), default=0) + 16
        self._criteria: list[Criterion] = (
            [] if criteria is None else list(criteria) if isinstance(criteria, Iterable) else [criteria]
        )
        self._prompt = prompt
        #: whether something beside end tokens has to be asked after every token
        self.asks_host = bool(self._texts or self._criteria or self._deadline is not None)
        #: whether one row may finish before another
        self.by_row = bool(self._eos or self._texts or self._criteria)

    def ended(self, tokens: Tensor) -> Tensor | None:
        """Which of these tokens, of any shape, are ends; None when none can be."""
        if not self._eos:
            return None
        if self.eos_count == 1:
            return tokens == self._eos[0]
        if self._eos_tensor is None or self._eos_tensor.device != tokens.device:
            self._eos_tensor = torch.tensor(self._eos, device=tokens.device)
        return (tokens[..., None] == self._eos_tensor).any(-1)

    def told(self, ids: Tensor, scores: Any) -> Tensor:
        """Which rows of ids [rows, L] are finished by a text, the clock or a criterion."""
        done = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        if self._deadline is not None and time.monotonic() > self._deadline:
            done.fill_(True)
        if self._texts:
            done |= torch.tensor([self._has_text(row) for row in self._new(ids)], device=ids.device)
        for criterion in self._criteria:
            done |= torch.as_tensor(criterion(ids, scores), dtype=torch.bool, device=ids.device)
        return done

    def _new(self, ids: Tensor) -> list[list[int]]:
        return ids[:, max(self._prompt, ids.shape[1] - self._window) :].tolist()

    def _has_text(self, ids: list[int]) -> bool:
        assert self._tokenizer is not None
        text = self._tokenizer.decode(ids)
        return any(stop in text for stop in self._texts)
