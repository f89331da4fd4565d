"""What counts as the same result: a speed-up with other tokens is none."""

from __future__ import annotations

import pytest
import torch

from onlooker.bench.verdict import judge

BF16, FP32 = torch.bfloat16, torch.float32
WHOSE = ("our_scores", "their_scores")


def answer(*leads: float, words: int = 50, noise: float = 0.04):
    """Of one answer, what words score: word 1 leads word 2 by so much before each token, the others are far behind.

    Returns:
        What is so, and what ours and theirs make of it by rounding: [T, V] each.
    """
    exact = torch.zeros(len(leads), words)
    for step, lead in zip(exact, leads):
        step[1], step[2] = 8, 8 - lead
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (exact + noise * torch.randn(exact.shape, generator=generator) for _ in range(2))
    for rounded in (ours, theirs):  # the two words do not happen to move
        rounded[:, 1:3] = exact[:, 1:3]
    return exact, ours, theirs


def tokens(ours, theirs, heard=None):
    """The verdict; `heard` are exact, our and their scores."""
    scores = {}
    if heard is not None:
        scores = {key: lambda row, ids, of=of: of[: len(ids)] for key, of in zip(("exact", *WHOSE), heard)}
    return judge(ours, theirs, dtype=BF16, is_lossless=True, **scores)


def test_equal_tokens_agree():
    verdict = tokens([[1, 1], [3]], [[1, 1], [3]])
    assert verdict.agrees and verdict.agreement == 1 and "3 tokens" in verdict.text


def test_other_tokens_fail_a_lossless_row():
    exact, ours, theirs = answer(4, 4, 4)
    ours[1, 2] = 9  # we were wrong, and know what we wrote
    verdict = tokens([[1, 2, 1]], [[1, 1, 1]], (exact, ours, theirs))
    assert not verdict.agrees and "OTHER TOKENS: answer 1 from token 2" in verdict.text
    assert not tokens([[1, 2]], [[1, 1]]).agrees  # nothing tells whether rounding did it


def test_float32_excuses_nothing():
    _, ours, theirs = answer(4, 0)
    sides = {"our_scores": lambda row, ids: ours, "their_scores": lambda row, ids: theirs}
    assert not judge([[1, 2]], [[1, 1]], dtype=FP32, is_lossless=True, **sides).agrees


def test_rounding_may_choose_between_words_it_cannot_tell_apart():
    exact, ours, theirs = answer(4, 0.05, 4)
    ours[1, 2] += 0.08
    verdict = tokens([[1, 2, 7]], [[1, 1, 1]], (exact, ours, theirs))
    assert verdict.agrees and "equal to rounding in 1 of 1, 1 of 3 tokens" in verdict.text
    exact = theirs.clone()  # the peer does not round: then this is no excuse
    assert not tokens([[1, 2, 7]], [[1, 1, 1]], (exact, ours, theirs)).agrees


def test_a_lead_that_rounding_cannot_make_is_none_of_its_doing():
    exact, ours, theirs = answer(4, 0.4, 4)
    theirs[1, 1] += 0.05
    ours[1, 1:3] = torch.tensor([7.8, 7.81])
    verdict = tokens([[1, 2, 1]], [[1, 1, 1]], (exact, ours, theirs))
    assert not verdict.agrees and "at token 2 two scores are" in verdict.text and "apart" in verdict.text


@pytest.mark.parametrize("step", [1, 4])
def test_a_score_that_is_3_percent_off_fails_at_a_tie_and_behind_it(step):
    exact, ours, theirs = answer(4, 0.02, 4, 4, 0.02, 4)
    ours[1, 2] += 0.03
    wrote = [[1, 2, 1, 1, 1, 1]], [[1] * 6]
    assert tokens(*wrote, (exact, ours, theirs)).agrees
    ours[step, 2] += 0.03 * 8
    verdict = tokens(*wrote, (exact, ours, theirs))
    assert not verdict.agrees and f"at token {step + 1}" in verdict.text and "off in ours" in verdict.text


def test_scores_that_err_more_than_theirs_are_not_excused():
    exact, ours, theirs = answer(4, 0.02, 4)
    ours[1, 2] += 0.03
    worse = exact + 1.7 * (ours - exact)
    verdict = tokens([[1, 2, 1]], [[1, 1, 1]], (exact, worse, theirs))
    assert not verdict.agrees and "our scores err by" in verdict.text
    assert not tokens([[1, 2, 1]], [[1, 1, 1]], (exact, ours * float("nan"), theirs)).agrees


def test_a_word_that_our_own_scores_do_not_choose_is_not_excused():
    exact, ours, theirs = answer(4, 0.02, 4)
    verdict = tokens([[1, 2, 1]], [[1, 1, 1]], (exact, ours, theirs))
    assert not verdict.agrees and "our own scores put another word first" in verdict.text


def test_a_tie_excuses_its_own_answer_only():
    exact, ours, theirs = answer(4, 0.02)
    ours[1, 2] += 0.03
    assert tokens([[1, 2], [1, 1]], [[1, 1], [1, 1]], (exact, ours, theirs)).agrees
    assert not tokens([[1, 2], [2, 1]], [[1, 1], [1, 1]], (exact, ours, theirs)).agrees


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
        our_scores=lambda row, ids: far,
        their_scores=lambda row, ids: near,
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
