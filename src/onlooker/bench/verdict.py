"""Holds our results against the peer's: a speed-up with other tokens is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: number of an answer, and of tokens -> scores [tokens, V] before each of its first tokens
Scores = Callable[[int, int], Tensor]
#: How far rounding may move features, relative to their norm.
_FEATURES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
#: How close two scores are when rounding decides which is the higher, relative to the largest: in bfloat16 two steps.
_TIE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes:
        agrees: the same result; of rows that are not lossless always true.
        text: for people.
        agreement: share of equal tokens, 0 to 1; None of features.
        error: |ours - theirs| / |theirs| of features, or of the first scores of rounded weights.
    """

    agrees: bool
    text: str
    agreement: float | None = None
    error: float | None = None


def judge(
    ours: Any,
    theirs: Any,
    *,
    dtype: torch.dtype,
    is_lossless: bool,
    our_scores: Scores | None = None,
    their_scores: Scores | None = None,
) -> Verdict:
    """Compare features, or ids of answers.

    Args:
        ours, theirs: tensors, or lists of ids, one for each answer.
        dtype: what both were computed in.
        our_scores, their_scores: see `Scores`.

    Of a lossless row ids must be equal. Where rounding alone decides between two words (their scores are within it, in
    the peer's own eyes), the two may take different ones, and what follows is not compared.
    """
    if isinstance(theirs, Tensor):
        return _of_features(ours, theirs, _FEATURES[dtype], is_lossless)
    return _of_tokens(ours, theirs, _TIE[dtype], is_lossless, our_scores, their_scores)


def _of_features(ours: Tensor, theirs: Tensor, most: float, is_lossless: bool) -> Verdict:
    if ours.shape != theirs.shape:
        return Verdict(False, f"OTHER SHAPE: {list(ours.shape)}, theirs {list(theirs.shape)}")
    error = _error(ours, theirs)
    agrees = error <= most or not is_lossless
    return Verdict(agrees, f"{'within' if agrees else 'OTHER VALUES:'} {100 * error:.2g} %", None, error)


def _of_tokens(
    ours: list[list[int]],
    theirs: list[list[int]],
    tie: float,
    is_lossless: bool,
    our_scores: Scores | None,
    their_scores: Scores | None,
) -> Verdict:
    count = sum(map(len, theirs))
    if [len(each) for each in ours] != [len(each) for each in theirs]:
        return Verdict(False, f"OTHER TOKENS: {sum(map(len, ours))} of them, theirs {count}", 0.0)
    same = sum(one == other for pair in zip(ours, theirs) for one, other in zip(*pair))
    agreement = same / count
    if not is_lossless:
        error = None
        if our_scores is not None and their_scores is not None:
            error = _error(our_scores(0, 1), their_scores(0, 1))
        told = "" if error is None else f", scores within {100 * error:.2g} %"
        return Verdict(True, f"{same} of {count} tokens{told}", agreement, error)
    ties = 0
    for row, pair in enumerate(zip(ours, theirs)):
        place = next((place for place, (one, other) in enumerate(zip(*pair)) if one != other), None)
        if place is None:
            continue
        told = f"OTHER TOKENS: answer {row + 1} from token {place + 1}"
        if their_scores is None:
            return Verdict(False, told, agreement)
        gap = _gap(their_scores(row, place + 1)[place], ours[row][place], theirs[row][place])
        if gap > tie:
            return Verdict(False, f"{told}, by {100 * gap:.2g} % of the highest score", agreement)
        ties += 1
    told = f"equal to a tie in {ties} of {len(theirs)}, {same} of {count} tokens" if ties else f"equal, {count} tokens"
    return Verdict(True, told, agreement)


def _gap(scores: Tensor, one: int, other: int) -> float:
    """How far apart the scores [V] of two words are, relative to the largest."""
    scores = scores.float()
    return float((scores[one] - scores[other]).abs() / scores.abs().max())


def _error(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30))
