"""Contrastive search: likely tokens that do not say again what the context says.

Su et al., A Contrastive Framework for Neural Text Generation (2022), equation 5.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from onlooker.generate.choose import best
from onlooker.generate.plan import Plan

if TYPE_CHECKING:
    from onlooker.language.protocol import Decoding


def search(decoding: Decoding, ids: Tensor, plan: Plan, alpha: float, top_k: int) -> Tensor:
    """Fill ids [B, T + max_new]; every step tries the top_k likeliest tokens of each row and keeps one.

    Args:
        alpha: weight of the likeness to the context, 0 to 1; the probability weighs 1 - alpha.
    """
    batch, width = len(ids), ids.shape[1] - plan.max_new
    logits, context = decoding.logits, _Context(decoding, plan.max_new)
    rows = torch.arange(batch, device=ids.device)
    done = torch.zeros(batch, dtype=torch.bool, device=ids.device)
    for step in range(plan.max_new):
        end = width + step
        scores = plan.filtered(ids[:, :end], logits)
        k = min(top_k, scores.shape[1])
        found, candidates = best(scores, k)  # [B, k]
        decoding.select(rows.repeat_interleave(k))
        after = decoding.step(candidates.flatten())  # [B * k, V]
        hidden = normalize(decoding.hidden[:, -1].float(), dim=-1).unflatten(0, (batch, k))  # [B, k, D]
        value = (1 - alpha) * scores.float().softmax(-1).gather(1, candidates) - alpha * context.likeness(hidden)
        # A forbidden token has probability 0, which an unlike enough one could still win with.
        chosen = value.masked_fill_(found == -math.inf, -math.inf).argmax(1)
        decoding.select(rows * k + chosen)
        context.append(hidden[rows, chosen])
        logits = after.unflatten(0, (batch, k))[rows, chosen]
        tokens = torch.where(done, plan.fill, candidates[rows, chosen])
        ids[:, end] = tokens
        if plan.streamer is not None:
            plan.streamer.put(tokens.cpu())
        done = plan.finished(done, ids[:, : end + 1], tokens)
        if bool(done.all()):
            return ids[:, : end + 1]
    return ids


class _Context:
    """Directions of all hidden states of a row so far, in one buffer; pads of the prompt are like nothing."""

    def __init__(self, decoding: Decoding, max_new: int) -> None:
        hidden = normalize(decoding.hidden.float(), dim=-1)  # [B, T, D]
        self._states = torch.cat([hidden, hidden.new_zeros(len(hidden), max_new, hidden.shape[2])], dim=1)
        self._length = hidden.shape[1]
        places = torch.arange(self._states.shape[1], device=hidden.device)
        lengths = decoding.lengths.to(hidden.device)[:, None]
        self._is_pad = (places >= lengths) & (places < self._length)  # [B, T + max_new]

    def likeness(self, hidden: Tensor) -> Tensor:
        """Directions [B, k, D] -> the highest cosine [B, k] with any state of their row."""
        cosines = hidden @ self._states[:, : self._length].mT  # [B, k, S]
        return cosines.masked_fill_(self._is_pad[:, None, : self._length], -math.inf).amax(-1)

    def append(self, hidden: Tensor) -> None:
        self._states[:, self._length] = hidden
        self._length += 1
