"""How likely each of some given answers is: one prefix, run once, continued by all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from onlooker.language.continuations import score_continuations
from onlooker.pipeline.answering import end_tokens
from onlooker.pipeline.continuing import Continuation
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.prefix import Prefix, start
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.records import Ranked, softmax
from onlooker.pipeline.reusing import Reuse


@torch.no_grad()
def rank_candidates(
    model: Any, writer: PromptWriter, row: Row, candidates: Sequence[str], reuse: Reuse | None = None
) -> list[Ranked]:
    """The candidates from the likeliest to the least likely.

    The score is the whole answer's, its end token included: without it a candidate could never be less likely than
    one that it begins.

    Args:
        reuse: where the prompt goes on from, and what it leaves.

    Raises:
        ValueError: no candidates, one that is twice there, or one without a token.
    """
    _check(candidates)
    end = min(end_tokens(model, {}), default=None)
    rows = [writer.continuation_ids(row.text, candidate) for candidate in candidates]
    empty = [candidate for candidate, ids in zip(candidates, rows) if not ids]
    if empty:
        raise ValueError(f"candidate {empty[0]!r} has no tokens: there is nothing to score")
    rows = [ids if end is None else [*ids, end] for ids in rows]
    prefix = Prefix(model, writer, [row])
    Continuation.of(model, writer, [row], prefix, reuse)
    scores = score_continuations(partial(start, model, prefix), rows)
    shares = softmax(scores)
    ranked = [Ranked(*each) for each in zip(candidates, scores, map(len, rows), shares)]
    return sorted(ranked, key=lambda each: -each.logprob)


def _check(candidates: Sequence[str]) -> None:
    if isinstance(candidates, str) or not candidates:
        raise ValueError("candidates must be a list with at least one text")
    twice = [candidate for number, candidate in enumerate(candidates) if candidate in candidates[:number]]
    if twice:
        raise ValueError(f"candidate {twice[0]!r} is there more than once")
