"""Filters of sampling: the temperature, and the ways to cut off unlikely tokens.

Each takes the scores [rows, V] (the history is not looked at) and forbids tokens in place; `keep` is how many of
the likeliest stay in any case, more than one with beams, which need a continuation beside every end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Temperature:
    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        return scores.div_(self.temperature)


class TopK:
    """The k likeliest; all that tie with the last of them stay."""

    def __init__(self, top_k: int, keep: int) -> None:
        self.top_k = max(top_k, keep)

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        least = scores.topk(min(self.top_k, scores.shape[1])).values[:, -1:]
        return scores.masked_fill_(scores < least, -math.inf)


class TopP:
    """The smallest set of likeliest tokens that holds probability `top_p` (nucleus sampling)."""

    def __init__(self, top_p: float, keep: int) -> None:
        self.top_p, self.keep = top_p, keep

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        ascending, order = scores.sort()
        # Summed from the unlikely end: there the sums are small and float32 keeps them exact.
        out = ascending.softmax(-1).cumsum(-1) <= 1 - self.top_p
        out[:, -self.keep :] = False
        return scores.masked_fill_(_to_places(out, order), -math.inf)


class MinP:
    """Tokens at least `min_p` times as likely as the likeliest."""

    def __init__(self, min_p: float, keep: int) -> None:
        self.min_p, self.keep = min_p, keep

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        probabilities = scores.softmax(-1)
        out = probabilities < self.min_p * probabilities.amax(-1, keepdim=True)
        return scores.masked_fill_(_spare_best(out, scores, self.keep), -math.inf)


class Typical:
    """Tokens whose surprise is closest to the expected one, up to probability `mass` (locally typical sampling)."""

    def __init__(self, mass: float, keep: int) -> None:
        self.mass, self.keep = mass, keep

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        log_probs = scores.log_softmax(-1)
        probabilities = log_probs.exp()
        entropy = -(log_probs * probabilities).nansum(-1, keepdim=True)
        distance, order = (-log_probs - entropy).abs().sort()
        below = probabilities.gather(1, order).cumsum(-1) < self.mass
        last = below.sum(-1, keepdim=True).clamp_(max=scores.shape[1] - 1)
        out = distance > distance.gather(1, last)
        out[:, : self.keep] = False
        return scores.masked_fill_(_to_places(out, order), -math.inf)


class Epsilon:
    """Tokens of at least probability `epsilon`."""

    def __init__(self, epsilon: float, keep: int) -> None:
        self.epsilon, self.keep = epsilon, keep

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        out = scores.softmax(-1) < self.epsilon
        return scores.masked_fill_(_spare_best(out, scores, self.keep), -math.inf)


class Eta:
    """Like Epsilon, with a lower bound where the distribution is flat (eta sampling)."""

    def __init__(self, epsilon: float, keep: int) -> None:
        self.epsilon, self.keep = epsilon, keep

    def __call__(self, history: Tensor, scores: Tensor) -> Tensor:
        log_probs = scores.log_softmax(-1)
        probabilities = log_probs.exp()
        entropy = -(log_probs * probabilities).nansum(-1, keepdim=True)
        bound = (math.sqrt(self.epsilon) * torch.exp(-entropy)).clamp_(max=self.epsilon)
        return scores.masked_fill_(_spare_best(probabilities < bound, scores, self.keep), -math.inf)


def _to_places(sorted_flags: Tensor, order: Tensor) -> Tensor:
    return torch.empty_like(sorted_flags).scatter_(1, order, sorted_flags)


def _spare_best(out: Tensor, scores: Tensor, keep: int) -> Tensor:
    best = scores.topk(min(keep, scores.shape[1])).values[:, -1:]
    return out & (scores < best)
