"""Rows do not disturb each other, and pads do not disturb a row."""

from __future__ import annotations

import random

import pytest
import torch

from onlooker.generate.config import GenerationConfig
from onlooker.generate.filters import build_filters
from onlooker.generate.loop import generate
from onlooker.generate.penalties import RepetitionPenalty
from tests.generate.borrowed import EOS, FAMILIES, PAD, Recomputed, ours, prompts, reference

PENALTIES = {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "bad_words_ids": [[7, 9], [11]]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        PENALTIES,
        {**PENALTIES, "num_beams": 3, "early_stopping": True, "num_return_sequences": 2},
        {"num_beams": 3, "early_stopping": "never", "length_penalty": 2.0},
        {"penalty_alpha": 0.6, "top_k": 4, "repetition_penalty": 1.3},
    ],
    ids=["greedy", "penalties", "beams", "beams-never", "contrastive"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_in_a_padded_batch_gives_what_it_gives_alone(family, options):
    ids, mask = prompts(family, random.Random(5), batch=4)
    options = {"max_new_tokens": 8, "eos_token_id": [EOS, 5, 20], **options}
    batch = ours(family, ids, mask, **options)
    each = options.get("num_return_sequences", 1)
    width = 1 if family == "t5" else ids.shape[1]
    for row in range(len(ids)):
        alone = ours(family, ids[row : row + 1, mask[row].bool()], **options)
        new = alone[:, 1 if family == "t5" else int(mask[row].sum()) :]
        together = batch[row * each : (row + 1) * each, width:]
        assert together[:, : new.shape[1]].tolist() == new.tolist()
        assert (together[:, new.shape[1] :] == PAD).all()


@pytest.mark.parametrize("side", ["left", "right", "between"])
@pytest.mark.parametrize("options", [PENALTIES, {**PENALTIES, "num_beams": 2}], ids=["greedy", "beams"])
def test_penalties_do_not_see_pads_wherever_they_stand(side, options):
    model = reference("llama")
    row = torch.tensor([[8, 7, 8, 9, 5]])
    places = {"left": [3, 4, 5, 6, 7], "right": [0, 1, 2, 3, 4], "between": [0, 1, 4, 5, 6]}[side]
    ids, mask = torch.full((1, 8), 7), torch.zeros(1, 8, dtype=torch.long)  # pads that would be seen: 7 is in the row
    ids[:, places], mask[:, places] = row, 1
    config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD, max_new_tokens=8, **options)
    alone = generate(lambda most: Recomputed(model, row, None), row, config)
    padded = generate(lambda most: Recomputed(model, row, None), ids, config, prompt_mask=mask)
    assert padded[:, :8].tolist() == ids.tolist(), "the prompt comes back as given"
    assert padded[:, 8:].tolist() == alone[:, 5:].tolist()


def test_a_pad_id_of_zero_fills_finished_rows_and_without_one_the_first_eos_does():
    ids = torch.tensor([[11, 7], [30, 6], [9, 4]])
    free = ours("opt", ids, max_new_tokens=10, eos_token_id=None)
    ends = [EOS, int(free[0, 4]), int(free[1, 7])]
    for pad, fill in ((0, 0), (None, EOS)):
        for options in ({}, {"num_beams": 3}):
            out = ours("opt", ids, max_new_tokens=10, eos_token_id=ends, pad_token_id=pad, **options)[:, 2:]
            is_end = (out[..., None] == torch.tensor(ends)).any(-1)
            lengths = [int(row.nonzero()[0]) + 1 if row.any() else 10 for row in is_end]
            assert options or len(set(lengths)) > 1, "rows end at different steps, or this test shows nothing"
            for row, length in zip(out, lengths):
                assert (row[length:] == fill).all()


def test_rows_that_end_apart_need_something_to_be_filled_with():
    config = GenerationConfig(stop_strings="x")
    with pytest.raises(ValueError, match="set pad_token_id"):
        generate(lambda most: None, torch.zeros(2, 1, dtype=torch.long), config, tokenizer=object())


def test_a_prompt_with_its_own_generator_draws_the_same_in_any_batch():
    ids, _ = prompts("opt", random.Random(1), batch=1)
    ids = torch.cat([ids, ids.flip(1), 40 - ids])

    def sample(rows, each):
        generators = [torch.Generator().manual_seed(100 + row) for row in rows]
        options = {"do_sample": True, "max_new_tokens": 9, "top_k": 0, "num_return_sequences": each}
        return ours("opt", ids[rows], call={"generator": generators}, eos_token_id=None, **options)

    for each in (1, 2):
        together = sample([0, 1, 2], each)
        for row in range(3):
            assert sample([row], each).tolist() == together[row * each : (row + 1) * each].tolist()
    assert together[0].tolist() != together[1].tolist()
    beams = {"num_beams": 2, "do_sample": True, "max_new_tokens": 6, "top_k": 0}
    make = lambda rows: [torch.Generator().manual_seed(row) for row in rows]  # noqa: E731
    both = ours("opt", ids[:2], call={"generator": make([0, 1])}, **beams)
    one = ours("opt", ids[1:2], call={"generator": make([1])}, **beams)
    assert both[1, : one.shape[1]].tolist() == one[0].tolist()


def test_one_generator_makes_sampling_repeatable_and_a_wrong_number_is_refused():
    ids = torch.tensor([[5, 6], [7, 8]])
    draw = lambda seed: ours(  # noqa: E731
        "opt", ids, do_sample=True, top_k=0, call={"generator": torch.Generator().manual_seed(seed)}
    ).tolist()
    assert draw(1) == draw(1) != draw(2)
    with pytest.raises(ValueError, match="3 generators for 2 prompts"):
        ours("opt", ids, do_sample=True, call={"generator": [torch.Generator()] * 3})


def test_placeholders_outside_the_vocabulary_are_no_trouble_for_penalties():
    model = reference("opt")
    row = torch.tensor([[8, 7, 8]])
    ids = torch.cat([torch.full((1, 4), 99), row], dim=1)
    config = GenerationConfig(max_new_tokens=6, **PENALTIES)
    with_them = generate(lambda most: Recomputed(model, row, None), ids, config)
    without = generate(lambda most: Recomputed(model, row, None), row, config)
    assert with_them[:, 7:].tolist() == without[:, 3:].tolist()


def test_a_row_of_nothing_but_foreign_ids_is_not_penalised():
    scores = torch.tensor([[1.0, -2.0, 3.0], [1.0, -2.0, 3.0]])
    got = RepetitionPenalty(2.0)(torch.tensor([[-1, 99], [99, 1]]), scores.clone())
    assert got.tolist() == [[1.0, -2.0, 3.0], [1.0, -4.0, 3.0]]
    assert RepetitionPenalty(2.0)(torch.empty(2, 0, dtype=torch.long), scores.clone()).tolist() == scores.tolist()


def test_an_ngram_runs_across_the_pads_between_prompt_and_answer():
    ids, mask = torch.tensor([[4, 6, PAD, PAD]]), torch.tensor([[1, 1, 0, 0]])
    filters = build_filters(GenerationConfig(no_repeat_ngram_size=2), None, ids, mask, 4)
    written = torch.cat([ids, torch.tensor([[5, 6]])], dim=1)  # 4 6 5 6: another 5 would repeat (6, 5)
    got = filters(written, torch.zeros(1, 8))
    assert got.isinf().nonzero().tolist() == [[0, 5]]


def test_a_forbidden_end_stays_forbidden_while_its_score_grows():
    options = {"exponential_decay_length_penalty": (0, 3.0), "min_new_tokens": 6, "max_new_tokens": 9}
    out = ours("opt", torch.tensor([[8, 7]]), **options)[0, 2:].tolist()
    assert out.index(EOS) >= 6
