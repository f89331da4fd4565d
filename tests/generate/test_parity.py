"""Random options on random tiny models give what the reference gives."""

from __future__ import annotations

import random

import pytest
import torch

from tests.generate.borrowed import EOS, FAMILIES, VOCAB, ours, prompts, reference, theirs


def close(ours_, theirs_):
    """Equal where forbidden (minus infinity), 1e-4 elsewhere: recomputed and cached sums round differently."""
    torch.testing.assert_close(ours_.float(), theirs_.float(), atol=1e-4, rtol=1e-4)


def random_options(rng: random.Random, mode: str) -> dict:
    maybe = lambda **options: options if rng.random() < 0.35 else {}  # noqa: E731
    token = lambda: rng.randint(3, VOCAB - 1)  # noqa: E731
    ends = [EOS, token(), token()]
    options = {
        "max_new_tokens": rng.randint(3, 10),
        **maybe(repetition_penalty=rng.choice([0.7, 1.3, 2.5])),
        **maybe(no_repeat_ngram_size=rng.choice([1, 2, 3])),
        **maybe(bad_words_ids=[[token()], [token(), token()], [EOS], [token()]]),
        **maybe(sequence_bias=[[[token()], 2.0], [[token(), token()], -3.0]]),
        **maybe(suppress_tokens=[token(), token()]),
        **maybe(begin_suppress_tokens=[token(), token()]),
        **maybe(eos_token_id=ends),
        **maybe(forced_bos_token_id=rng.choice([i for i in range(3, VOCAB) if i not in ends])),
        **maybe(renormalize_logits=True),
    }
    # Each of these alone: together they leave the reference without any token, or with not-a-number.
    options |= rng.choice(
        [
            {},
            {"min_new_tokens": rng.randint(1, 3)},
            {} if options.get("no_repeat_ngram_size") == 1 else {"exponential_decay_length_penalty": (2, 1.2)},
            {"forced_eos_token_id": EOS},
        ]
    )
    if rng.random() < 0.3:
        del options["max_new_tokens"]
        options |= {"max_length": rng.randint(9, 14)}
        if not {"min_new_tokens", "exponential_decay_length_penalty"} & set(options):
            options |= {"min_length": rng.randint(0, 8)}
    if mode in ("beam", "beam_sample"):
        options["num_beams"] = rng.randint(2, 4)
        options["num_return_sequences"] = rng.randint(1, options["num_beams"])
        options["length_penalty"] = rng.choice([1.0, 1.0, 0.0, 2.0, -1.0])
        options["early_stopping"] = rng.choice([True, False, "never"])
    if mode in ("sample", "beam_sample"):
        options |= {
            "do_sample": True,
            "top_k": rng.choice([0, 1, 5, 50]),
            **maybe(temperature=rng.choice([0.5, 1.5])),
            **maybe(top_p=rng.choice([0.3, 0.9])),
            **maybe(min_p=0.1),
            **maybe(typical_p=0.6),
            **maybe(epsilon_cutoff=0.02),
            **({} if "forced_eos_token_id" in options or "forced_bos_token_id" in options else maybe(eta_cutoff=0.05)),
        }
    if mode == "sample":
        options["num_return_sequences"] = rng.choice([1, 3])
    return options


@pytest.mark.parametrize("mode", ["greedy", "sample", "beam", "beam_sample"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_random_options_give_the_ids_and_scores_of_the_reference(family, mode, seed):
    rng = random.Random(f"{family}{mode}{seed}")
    ids, mask = prompts(family, rng, batch=rng.randint(1, 3))
    if family != "t5":  # the reference's penalties see pads, on purpose ours do not: see test_padding.py
        ids, mask = ids[:, -2:], torch.ones_like(ids[:, -2:])
    options = random_options(rng, mode) | {"return_dict_in_generate": True, "output_scores": True}
    reference(family, seed % 3)  # made before the seed is set: its weights are random numbers too
    results = []
    for run in (theirs, ours):
        torch.manual_seed(seed)
        results.append(run(family, ids, mask, seed=seed % 3, output_logits=True, **options))
    want, got = results
    assert got.sequences.tolist() == want.sequences.tolist(), options
    assert len(got.scores) == len(want.scores) and len(got.logits) == len(want.logits)
    for step, pairs in enumerate(zip(zip(got.scores, want.scores), zip(got.logits, want.logits))):
        # Of beams, the rows that answers came from: which impossible beams run on beside them is nobody's promise.
        rows = torch.arange(len(got.scores[step]))
        if "beam" in mode:
            rows = want.beam_indices[:, step : step + 1].flatten().long()
            rows = rows[rows >= 0]
        for ours_, theirs_ in pairs:
            close(ours_[rows], theirs_[rows])
    if "beam" in mode:
        close(got.sequences_scores, want.sequences_scores)
        assert got.beam_indices.tolist() == want.beam_indices.tolist()
        assert list(got.keys()) == ["sequences", "sequences_scores", "scores", "logits", "beam_indices"]
    else:
        assert got.to_tuple()[0] is got.sequences and got[1] is got.scores
