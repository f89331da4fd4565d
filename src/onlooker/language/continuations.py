"""How likely given continuations of one prompt are: side by side in one forward pass, behind one copy of its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

TOKENS_AT_ONCE = 1024  # of all continuations together in one forward pass
ROWS_AT_ONCE = 128  # where each needs a copy of the prompt's keys


def score_continuations(start: Callable[[int], Any], rows: Sequence[Sequence[int]]) -> list[float]:
    """Sum of the log-probabilities of each row of token ids.

    Args:
        start: gives the decoding of the prompt, one row, with room for so many tokens. It is called once, but for
            language models of other libraries, which cannot run rows side by side.
        rows: token ids of each continuation, at least one.
    """
    longest = max(map(len, rows))
    decoding = start(longest)
    if hasattr(decoding, "run"):
        return [score for part in _parts(rows) for score in _side_by_side(decoding, part)]
    scores: list[float] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        scores += _step_by_step(decoding if not first else start(longest), rows[first : first + ROWS_AT_ONCE])
    return scores


def _parts(rows: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    part: list[Sequence[int]] = []
    for row in rows:
        if part and sum(map(len, part)) + len(row) > TOKENS_AT_ONCE:
            yield part
            part = []
        part.append(row)
    yield part


def _side_by_side(decoding: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    """The last token of a row needs no scores behind it: it is not run."""
    device = decoding.logits.device
    firsts = torch.tensor([row[0] for row in rows], device=device)
    total = _log_probabilities(decoding.logits)[0, firsts].double()
    run = [(row[at], row[at + 1], owner) for owner, row in enumerate(rows) for at in range(len(row) - 1)]
    if run:
        tokens, following, owners = torch.tensor(run, device=device).T
        scores = _log_probabilities(decoding.run(tokens[None], owners)[0])
        total.index_add_(0, owners, scores.gather(1, following[:, None])[:, 0].double())
    return total.tolist()


def _step_by_step(decoding: Any, rows: Sequence[Sequence[int]]) -> list[float]:
    logits = decoding.logits
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in rows], device=logits.device)
    lengths = torch.tensor([len(row) for row in rows], device=logits.device)
    total = _log_probabilities(logits)[0, ids[:, 0]].double()
    decoding.select(torch.zeros(len(rows), dtype=torch.long, device=logits.device))
    for position in range(1, longest):
        logits = decoding.step(ids[:, position - 1])
        gained = _log_probabilities(logits).gather(1, ids[:, position, None])[:, 0]
        total += torch.where(position < lengths, gained, 0.0)
    return total.tolist()


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)
