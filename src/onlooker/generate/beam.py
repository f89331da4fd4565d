"""Beam search and beam sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onlooker.generate.choose import best
from onlooker.generate.config import GenerationConfig
from onlooker.generate.output import GenerateOutput
from onlooker.generate.plan import Move, Plan, Search

# Finite, so that sums with it stay ordered; far below any sum of log-probabilities.
_NOWHERE = -1.0e9


@dataclass
class _Beams:
    """Running and stored hypotheses of every prompt.  B prompts, n beams, K candidates.

    A trail is [.., 2, max_new]: a hypothesis' new tokens, and the flat row that each of them came from.
    """

    config: GenerationConfig
    plan: Plan
    trail: Tensor  # [B, n, 2, max_new] running
    scores: Tensor  # [B, n] sums of log-probabilities
    stored: Tensor  # [B, n, 2, max_new]
    stored_scores: Tensor  # [B, n] best first
    is_stored: Tensor  # [B, n]
    closed: Tensor  # [B] nothing can get into this prompt's store any more

    @classmethod
    def start(cls, config: GenerationConfig, plan: Plan, prompts: int, device: torch.device) -> _Beams:
        n = config.num_beams
        trail = torch.full((prompts, n, 2, plan.max_new), plan.fill, device=device)
        trail[:, :, 1] = -1
        scores = torch.zeros(prompts, n, device=device)
        scores[:, 1:] = _NOWHERE  # the beams are copies still: only the first may be continued
        return cls(
            config=config,
            plan=plan,
            trail=trail,
            scores=scores,
            stored=trail.clone(),
            stored_scores=torch.full_like(scores, _NOWHERE),
            is_stored=torch.zeros_like(scores, dtype=torch.bool),
            closed=torch.zeros(prompts, dtype=torch.bool, device=device),
        )

    def candidates(self, log_probs: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Continuations of all beams from log_probs [B * n, V]: their sums [B, K] and trails [B, K, 2, step + 1].

        K leaves n that run on even if every end token of every beam is among them.
        """
        batch, n = self.scores.shape
        size = log_probs.shape[1]
        count = max(2, 1 + self.plan.stops.eos_count) * n
        sums = (log_probs.unflatten(0, (batch, n)) + self.scores[..., None]).flatten(1)  # [B, n * V]
        if count > sums.shape[1]:
            raise ValueError(f"num_beams {n} needs {count} continuations, but {n} beams of {size} tokens have fewer")
        if self.plan.sampler is None:
            values, flat = best(sums, count)
        else:
            flat = self.plan.sampler.draw(sums, count)
            values = sums.gather(1, flat)
        beams = flat.div(size, rounding_mode="floor")
        trails = _pick(self.trail[..., : step + 1], beams)
        trails[:, :, 0, step] = flat - beams * size
        trails[:, :, 1, step] = beams + n * torch.arange(batch, device=flat.device)[:, None]
        return values, trails

    def run_on(self, values: Tensor, trails: Tensor, hits: Tensor) -> None:
        """Keep the n best candidates that no end has been put to."""
        n = self.scores.shape[1]
        self.scores, order = (values + hits * _NOWHERE).sort(dim=1, descending=True, stable=True)
        self.scores = self.scores[:, :n]
        self.trail[..., : trails.shape[-1]] = _pick(trails, order[:, :n])

    def store(self, values: Tensor, trails: Tensor, hits: Tensor) -> None:
        """Store ended candidates that are among the n first, if they beat what is stored."""
        n, length = self.scores.shape[1], trails.shape[-1]
        ended = hits.clone()
        ended[:, n:] = False
        ended &= ~self.closed[:, None]
        final = torch.where(ended, values / length**self._length_penalty, _NOWHERE)
        merged, order = torch.cat([self.stored_scores, final], dim=1).sort(dim=1, descending=True, stable=True)
        order = order[:, :n]
        self.stored_scores = merged[:, :n]
        self.is_stored = torch.cat([self.is_stored, ended], dim=1).gather(1, order)
        self.stored[..., :length] = _pick(torch.cat([self.stored[..., :length], trails], dim=1), order)

    def close(self, length: int) -> None:
        """Close prompts whose running beams, of this length, cannot beat the worst stored one (or need not)."""
        full = self.is_stored.all(1)
        if self.config.early_stopping is True:
            self.closed |= full
        longest = self.config.early_stopping == "never" and self._length_penalty > 0
        hope = self.scores[:, 0] / (self.plan.max_new if longest else length) ** self._length_penalty
        worst = torch.where(full, self.stored_scores[:, -1], _NOWHERE)
        self.closed |= hope <= worst

    @property
    def _length_penalty(self) -> float:
        return 1.0 if self.config.length_penalty is None else self.config.length_penalty


def search(logits: Tensor, prompts: Tensor, config: GenerationConfig, plan: Plan) -> Search:
    """Look for the num_return_sequences best continuations of each prompt.

    Args:
        logits: [B * n, V] behind the prompts.
        prompts: [B * n, T] every prompt n times.

    Returns:
        ids [B * num_return_sequences, T + longest], best first; or the record.
    """
    n = config.num_beams
    batch, on_host = len(prompts) // n, prompts.device.type == "cpu"
    same = torch.arange(len(prompts), device=prompts.device)
    beams = _Beams.start(config, plan, batch, prompts.device)
    over = torch.zeros((), dtype=torch.bool, device=prompts.device)
    ran = torch.ones((), dtype=torch.long, device=prompts.device)
    for step in range(plan.max_new):
        plan.recorder.keep_logits(logits)
        log_probs = logits.float().log_softmax(-1)
        if plan.filters.active:
            log_probs = plan.filters(_ids(prompts, beams.trail[..., :step]), log_probs)
        plan.recorder.keep_scores(log_probs)
        values, trails = beams.candidates(log_probs, step)
        hits = _hits(prompts, trails, plan, is_last=step + 1 == plan.max_new)
        if not on_host or bool(hits[:, :n].any()):
            beams.store(values, trails, hits)
        if step + 1 == plan.max_new:
            break
        beams.run_on(values, trails, hits)
        beams.close(step + 1)
        over |= beams.closed.all() | hits.all()
        if (step + 1) % plan.poll == 0 and bool(over):
            break
        if plan.poll > 1:
            ran += ~over
        rows = beams.trail[:, :, 1, step].flatten()
        stays = on_host and torch.equal(rows, same)
        logits = yield Move(beams.trail[:, :, 0, step].flatten(), None if stays else rows)
    if plan.poll > 1:
        plan.recorder.cut(int(ran))
    return _output(prompts, beams, config, plan)


def _hits(prompts: Tensor, trails: Tensor, plan: Plan, is_last: bool) -> Tensor:
    """Which candidates [B, K] are finished."""
    tokens = trails[:, :, 0, -1]
    if is_last:
        return torch.ones_like(tokens, dtype=torch.bool)
    ended = plan.stops.ended(tokens)
    hits = torch.zeros_like(tokens, dtype=torch.bool) if ended is None else ended
    if plan.stops.asks_host:
        batch, count = tokens.shape
        rows = prompts[:: len(prompts) // batch].repeat_interleave(count, dim=0)
        hits = hits | plan.stops.told(_ids(rows, trails), plan.recorder.scores).unflatten(0, (batch, count))
    return hits


def _output(prompts: Tensor, beams: _Beams, config: GenerationConfig, plan: Plan) -> Tensor | GenerateOutput:
    wanted = config.num_return_sequences
    stored = beams.stored[:, :wanted].flatten(0, 1)  # [B * wanted, 2, max_new]
    longest = int((stored[:, 1] >= 0).sum(-1).max())
    rows = prompts[:: config.num_beams].repeat_interleave(wanted, dim=0)
    ids = torch.cat([rows, stored[:, 0, :longest]], dim=1)
    return plan.recorder.output(ids, beams.stored_scores[:, :wanted].flatten(), stored[:, 1, :longest])


def _ids(prompts: Tensor, trails: Tensor) -> Tensor:
    return torch.cat([prompts, trails[:, :, 0].flatten(0, 1)], dim=1)


def _pick(trails: Tensor, order: Tensor) -> Tensor:
    """trails [B, K, 2, L] by order [B, K'] -> a copy [B, K', 2, L]."""
    return trails.gather(1, order[..., None, None].expand(-1, -1, *trails.shape[2:]))
