"""Filters that look at what a row has said so far.

A filter is called with the row's history [rows, L] and the scores [rows, V] of the next token; it may change the
scores in place and returns them.  In a history pads are cut out: they stand in front as -1, so that n-grams and
sequences run across them as they do when the row stands alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def _columns(history: Tensor, size: int) -> Tensor:
    """Ids as columns of a [rows, size + 1] table; pads and ids outside the vocabulary go to the spare last column."""
    return torch.where((history < 0) | (history >= size), size, history)


class RepetitionPenalty:
    """Divide positive and multiply negative scores of tokens already there (CTRL, section 4.1)."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        # Only the scores of the history's tokens are read and written: a vocabulary is much longer.  What is no
        # token stands for one that is there anyway.
        counts = (history >= 0) & (history < scores.shape[1])
        some = torch.where(counts, history, -1).amax(1, keepdim=True) if history.shape[1] else history
        index = torch.where(counts, history, some.clamp(min=0))
        old = scores.gather(1, index)
        new = torch.where(old < 0, old * self.penalty, old / self.penalty)
        return scores.scatter_(1, index, torch.where(some < 0, old, new))


class NoRepeatNgram:
    """Forbid the token that would complete an n-gram for the second time."""

    def __init__(self, ngram_size: int) -> None:
        self.ngram_size = ngram_size

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        n, size = self.ngram_size, scores.shape[1]
        if history.shape[1] < n:
            return scores
        grams = history.unfold(1, n, 1)  # [rows, L - n + 1, n]
        begun = history[:, None, history.shape[1] - (n - 1) :]
        again = (grams[..., :-1] == begun).all(-1)
        banned = torch.zeros(len(scores), size + 1, dtype=torch.bool, device=scores.device)
        columns = torch.where(again, _columns(grams[..., -1], size), size)
        return scores.masked_fill_(banned.scatter_(1, columns, True)[:, :size], -math.inf)


class SequenceBias:
    """Add a bias to the last token of a sequence when the row ends in the tokens before it."""

    def __init__(self, biases: Mapping[tuple[int, ...], float]) -> None:
        by_length: dict[int, list[tuple[tuple[int, ...], float]]] = {}
        for ids, bias in biases.items():
            by_length.setdefault(len(ids), []).append((ids, bias))
        # for each length: the ids before the last [M, n - 1], the last ids [M] and the biases [M]
        self.groups = [
            (torch.tensor([ids[:-1] for ids, _ in group]), *map(torch.tensor, zip(*[(ids[-1], b) for ids, b in group])))
            for _, group in sorted(by_length.items())
        ]
        self.highest = max((max(ids) for ids in biases), default=-1)

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        rows, size = scores.shape
        if self.highest >= size:
            raise ValueError(f"a biased or bad word holds token {self.highest}, but the vocabulary has {size} tokens")
        if self.groups and self.groups[0][1].device != scores.device:
            self.groups = [tuple(part.to(scores.device) for part in group) for group in self.groups]
        for before, last, bias in self.groups:
            n = before.shape[1]
            if n > history.shape[1]:
                continue
            ends = (history[:, None, history.shape[1] - n :] == before).all(-1)  # [rows, M]; no tokens before: always
            scores.scatter_add_(1, last.expand(rows, -1), torch.where(ends, bias, 0.0))
        return scores


def bad_words(words: list[list[int]], eos_ids: list[int]) -> SequenceBias:
    """Words that may not be completed; a lone eos among them is let be, else no row could end."""
    return SequenceBias({tuple(word): -math.inf for word in words if list(word) not in [[token] for token in eos_ids]})


def sequence_bias(given: Any) -> SequenceBias:
    """From {(ids): bias}, or the form that JSON can hold: [[[ids], bias], ...]."""
    pairs = given.items() if isinstance(given, Mapping) else given
    return SequenceBias({tuple(ids): float(bias) for ids, bias in pairs})
