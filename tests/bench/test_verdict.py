"""What counts as the same result: a speed-up with other tokens is none."""

from __future__ import annotations

import pytest
import torch

from onlooker.bench.verdict import judge

BF16, FP32 = torch.bfloat16, torch.float32


def scores(*gaps: float):
    """Of one answer: word 1 leads word 2 by so much before each token, and all others are far behind."""
    steps = torch.zeros(len(gaps), 10)
    for step, gap in zip(steps, gaps):
        step[1], step[2] = 8, 8 - gap
    return lambda row, count: steps[:count]


def tokens(ours, theirs, dtype=BF16, *gaps):
    return judge(ours, theirs, dtype=dtype, is_lossless=True, their_scores=scores(*gaps) if gaps else None)


def test_equal_tokens_agree():
    verdict = tokens([[1, 1], [3]], [[1, 1], [3]])
    assert verdict.agrees and verdict.agreement == 1 and "3 tokens" in verdict.text


def test_other_tokens_fail_a_lossless_row():
    verdict = tokens([[1, 2, 1]], [[1, 1, 1]], BF16, 4, 4, 4)
    assert not verdict.agrees and "OTHER TOKENS" in verdict.text and "token 2" in verdict.text
    assert not tokens([[1, 2]], [[1, 1]]).agrees  # nothing tells whether it was a tie


def test_rounding_may_choose_between_words_it_cannot_tell_apart():
    verdict = tokens([[1, 2, 7]], [[1, 1, 5]], BF16, 4, 0.05, 4)
    assert verdict.agrees and "tie" in verdict.text
    assert not tokens([[1, 2]], [[1, 1]], FP32, 4, 0.05).agrees  # float32 can
    assert not tokens([[1, 2]], [[1, 1]], BF16, 4, 0.1).agrees  # three steps of bfloat16 are no tie


def test_a_tie_excuses_its_own_answer_only():
    two = [[1, 2], [2, 1]], [[1, 1], [1, 1]]
    assert not tokens(*two, BF16, 4, 0.05).agrees


def test_answers_of_another_length_fail():
    assert not tokens([[1]], [[1, 1]]).agrees
    assert not judge([[1]], [[1, 1]], dtype=BF16, is_lossless=False).agrees


def test_rounded_weights_tell_their_agreement():
    near, far = torch.ones(2, 4), torch.full((2, 4), 1.1)
    verdict = judge(
        [[1, 2, 3, 4]],
        [[1, 2, 5, 6]],
        dtype=BF16,
        is_lossless=False,
        our_scores=lambda row, count: far,
        their_scores=lambda row, count: near,
    )
    assert verdict.agrees and verdict.agreement == 0.5 and verdict.error == pytest.approx(0.1, rel=1e-5)
    assert "2 of 4 tokens" in verdict.text


@pytest.mark.parametrize(("dtype", "change", "agrees"), [(FP32, 1e-3, False), (BF16, 1e-3, True), (BF16, 0.1, False)])
def test_features_may_differ_by_rounding(dtype, change, agrees):
    theirs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    verdict = judge(theirs * (1 + change), theirs, dtype=dtype, is_lossless=True)
    assert verdict.agrees is agrees and verdict.error == pytest.approx(change, rel=1e-3)


def test_features_of_another_shape_fail_and_nan_does_not_pass():
    theirs = torch.ones(3, 4)
    assert not judge(theirs[:2], theirs, dtype=FP32, is_lossless=True).agrees
    assert not judge(theirs * float("nan"), theirs, dtype=FP32, is_lossless=True).agrees
