"""Filters that forbid or force tokens by how long a row is."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Tokens:
    """A few token ids as an index, without those that the vocabulary does not have."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self._index: Tensor | None = None

    def within(self, scores: Tensor) -> Tensor:
        if self._index is None or self._index.device != scores.device:
            self._index = torch.tensor([i for i in self.ids if i < scores.shape[1]], device=scores.device).long()
        return self._index


class Suppress:
    """Forbid tokens while fewer than `until` new ones are there (None: always).

    Args:
        prompt: positions of the history that are prompt.
        since: not before this many new tokens.
    """

    def __init__(self, ids: list[int], prompt: int, until: int | None = None, since: int = 0) -> None:
        self.tokens = Tokens(ids)
        self.prompt, self.until, self.since = prompt, until, since

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        new = history.shape[1] - self.prompt
        if new < self.since or (self.until is not None and new >= self.until):
            return scores
        return scores.index_fill_(1, self.tokens.within(scores), -math.inf)


class Force:
    """Allow nothing but these tokens where exactly `at` new ones are there."""

    def __init__(self, ids: list[int], prompt: int, at: int) -> None:
        self.tokens = Tokens(ids)
        self.prompt, self.at = prompt, at

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        if history.shape[1] - self.prompt != self.at:
            return scores
        return scores.fill_(-math.inf).index_fill_(1, self.tokens.within(scores), 0.0)


class GrowEos:
    """Raise the end's score by factor ** (steps past `start`), whatever its sign."""

    def __init__(self, ids: list[int], prompt: int, start: int, factor: float) -> None:
        self.tokens = Tokens(ids)
        self.prompt, self.start, self.factor = prompt, start, factor

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        steps = history.shape[1] - self.prompt - self.start
        if steps <= 0:
            return scores
        index = self.tokens.within(scores)
        growth = scores[:, index].abs() * (self.factor**steps - 1)
        return scores.index_add_(1, index, growth.masked_fill_(growth.isinf(), 0))  # a forbidden end stays so
