"""Holds our results against the peer's: a speed-up with other tokens is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: number of an answer, and its ids -> scores [T, V] before each of them, whatever the model itself would have chosen
Scores = Callable[[int, list[int]], Tensor]
#: How far rounding may move features, relative to their norm.
_FEATURES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
#: How much more than theirs our scores may err.
_MORE = 1.5


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
    exact: Scores | None = None,
) -> Verdict:
    """Compare features, or ids of answers.

    Args:
        ours, theirs: tensors, or lists of ids, one for each answer.
        dtype: what both were computed in.
        our_scores, their_scores: see `Scores`.
        exact: their scores when they compute in float32, with the same weights.

    Of a lossless row ids must be equal. Where they are not, both are told the peer's answer word by word, and `exact`
    shows how far rounding moves the scores of each: see `_Heard.unexcused`. Without `exact` nothing is excused.
    """
    if isinstance(theirs, Tensor):
        return _of_features(ours, theirs, _FEATURES[dtype], is_lossless)
    return _of_tokens(ours, theirs, is_lossless, our_scores, their_scores, exact)


def _of_features(ours: Tensor, theirs: Tensor, most: float, is_lossless: bool) -> Verdict:
    if ours.shape != theirs.shape:
        return Verdict(False, f"OTHER SHAPE: {list(ours.shape)}, theirs {list(theirs.shape)}")
    error = _error(ours, theirs)
    agrees = error <= most or not is_lossless
    return Verdict(agrees, f"{'within' if agrees else 'OTHER VALUES:'} {100 * error:.2g} %", None, error)


def _of_tokens(
    ours: list[list[int]],
    theirs: list[list[int]],
    is_lossless: bool,
    our_scores: Scores | None,
    their_scores: Scores | None,
    exact: Scores | None,
) -> Verdict:
    count = sum(map(len, theirs))
    if [len(each) for each in ours] != [len(each) for each in theirs]:
        return Verdict(False, f"OTHER TOKENS: {sum(map(len, ours))} of them, theirs {count}", 0.0)
    same = sum(one == other for pair in zip(ours, theirs) for one, other in zip(*pair))
    agreement = same / count
    if not is_lossless:
        error = None
        if our_scores is not None and their_scores is not None:
            error = _error(our_scores(0, theirs[0][:1]), their_scores(0, theirs[0][:1]))
        told = "" if error is None else f", scores within {100 * error:.2g} %"
        return Verdict(True, f"{same} of {count} tokens{told}", agreement, error)
    errors = []
    for row, (one, other) in enumerate(zip(ours, theirs)):
        if one == other:
            continue
        place = next(place for place, pair in enumerate(zip(one, other)) if pair[0] != pair[1])
        told = f"OTHER TOKENS: answer {row + 1} from token {place + 1}"
        if our_scores is None or their_scores is None or exact is None:
            return Verdict(False, told, agreement)
        scores = _Heard(our_scores(row, other), their_scores(row, other), exact(row, other))
        fault = scores.unexcused(one, other, place)
        if fault is not None:
            return Verdict(False, f"{told}: {fault}", agreement)
        errors.append((_error(scores.ours, scores.exact), _error(scores.theirs, scores.exact)))
    if not errors:
        return Verdict(True, f"equal, {count} tokens", agreement)
    mine, peers = (f"{100 * max(each):.2g} %" for each in zip(*errors))
    told = f"equal to rounding in {len(errors)} of {len(theirs)}, {same} of {count} tokens"
    return Verdict(True, f"{told}; scores within {mine}, theirs {peers}", agreement)


@dataclass(frozen=True)
class _Heard:
    """Scores [T, V] along the peer's ids of one answer: ours, the peer's, and those that nothing has rounded."""

    ours: Tensor
    theirs: Tensor
    exact: Tensor

    def unexcused(self, ours: list[int], theirs: list[int], place: int) -> str | None:
        """What rounding does not explain, of ids that differ from `place` on; None where it explains all.

        Rounding excuses another word where the peer's scores of the two are no further apart than they may have been
        moved together, each by as much as any score of the peer was there. And our own scores may err by no more than
        `_MORE` times as much: all of them in the mean, and there each of the two.
        """
        best = self.ours.amax(-1)
        chosen = self.ours.argmax(-1)
        chosen[: place + 1] = torch.tensor(ours[: place + 1])
        if not bool((self.ours.gather(1, chosen[:, None])[:, 0] == best).all()):
            return "our own scores put another word first"
        mine, peers = _error(self.ours, self.exact), _error(self.theirs, self.exact)
        if not mine <= _MORE * peers:
            return f"our scores err by {100 * mine:.2g} %, theirs by {100 * peers:.2g} %"
        pairs = torch.stack([chosen, torch.tensor(theirs)], 1)
        for step in (chosen != pairs[:, 1]).nonzero()[:, 0].tolist():
            pair, highest = pairs[step], self.exact[step].abs().amax()
            rounding = (self.theirs - self.exact)[step].abs().amax()
            gap = (self.theirs[step, pair[0]] - self.theirs[step, pair[1]]).abs()
            moved = (self.ours - self.exact)[step, pair].abs().amax()
            for what, size, most in (("apart", gap, 2 * rounding), ("off in ours", moved, _MORE * rounding)):
                if not size <= most:
                    sizes = f"{100 * float(size / highest):.2g} % {what}, and rounding explains"
                    return f"at token {step + 1} two scores are {sizes} {100 * float(most / highest):.2g} %"
        return None


def _error(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.double(), theirs.double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30))
