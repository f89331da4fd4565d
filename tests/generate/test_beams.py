"""What the pages say of beams, beyond what the random comparison meets."""

from __future__ import annotations

import pytest
import torch

from onlooker.generate.choose import best
from onlooker.generate.config import GenerationConfig
from onlooker.generate.loop import generate

NO = -30.0


class Table:
    """A language whose next token depends on the last one alone."""

    def __init__(self, table, first, rows=1):
        self.table = torch.tensor(table).log()
        self.logits = self.table[first].expand(rows, -1)
        self.hidden, self.lengths = torch.zeros(rows, 1, 1), torch.ones(rows, dtype=torch.long)
        self.selected = []

    def step(self, token_ids):
        self.logits = self.table[token_ids]
        return self.logits

    def select(self, rows):
        self.selected.append(rows.tolist())
        self.logits = self.logits[rows]


def run(table, first=0, **options):
    options = {"eos_token_id": 3, "pad_token_id": 0, "return_dict_in_generate": True, "output_scores": True, **options}
    return generate(lambda most: Table(table, first), torch.tensor([[first]]), GenerationConfig(**options))


# rows: after token i; 3 ends
SHORT_OR_LONG = [[0.05, 0.45, 0.1, 0.4], [0.05, 0.8, 0.05, 0.1], [0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_score_is_the_sum_over_new_tokens_divided_by_their_number_to_the_penalty(penalty):
    out = run(SHORT_OR_LONG, num_beams=2, num_return_sequences=2, length_penalty=penalty, max_new_tokens=4)
    table = torch.tensor(SHORT_OR_LONG).log()
    for ids, score in zip(out.sequences.tolist(), out.sequences_scores):
        new = ids[1 : ids.index(3) + 1] if 3 in ids else ids[1:]
        want = sum(float(table[a, b]) for a, b in zip([0, *new], new)) / len(new) ** penalty
        assert score.item() == pytest.approx(want, abs=1e-5)
    assert out.sequences_scores[0] >= out.sequences_scores[1]


def test_early_stopping_true_takes_the_first_stored_and_never_looks_on():
    options = {"num_beams": 2, "length_penalty": 1.0, "max_new_tokens": 8}
    hasty = run(SHORT_OR_LONG, early_stopping=True, **options)
    patient = run(SHORT_OR_LONG, early_stopping="never", **options)
    assert patient.sequences_scores[0] > hasty.sequences_scores[0]
    assert len(patient.scores) > len(hasty.scores)
    assert patient.sequences.tolist()[0] == [0] + [1] * 8


def test_equal_scores_go_to_the_lower_index():
    flat = [[0.25] * 4] * 4
    out = run(flat, num_beams=3, num_return_sequences=3, eos_token_id=None, max_new_tokens=1)
    assert out.sequences[:, 1].tolist() == [0, 1, 2]
    scores = torch.zeros(2, 50_000)
    scores[1, 400:] = 1
    assert best(scores, 4)[1].tolist() == [[0, 1, 2, 3], [400, 401, 402, 403]]
    half = torch.randn(3, 5000).bfloat16().float()
    values, indices = half.sort(descending=True, stable=True)
    assert torch.equal(best(half, 64)[1], indices[:, :64]) and torch.equal(best(half, 64)[0], values[:, :64])


def test_beams_that_keep_their_order_do_not_move_the_cache():
    decoding = Table(SHORT_OR_LONG, 0)
    config = GenerationConfig(num_beams=2, max_new_tokens=5, eos_token_id=None)
    generate(lambda most: decoding, torch.tensor([[0]]), config)
    assert decoding.selected[0] == [0, 0] and [0, 1] not in decoding.selected


def test_too_many_beams_for_a_vocabulary_are_refused():
    out = run([[0.25] * 4] * 4, num_beams=6, max_new_tokens=2)
    assert out.sequences.shape[0] == 1
    with pytest.raises(ValueError, match="num_beams 2 needs 8 continuations, but 2 beams of 1 tokens"):
        run([[1.0]], num_beams=2, max_new_tokens=2, eos_token_id=[0, 1, 2])


def test_the_first_prefill_serves_all_copies():
    begun = []

    def begin(most):
        begun.append(most)
        return Table(SHORT_OR_LONG, 0)

    for options in ({"num_beams": 3}, {"do_sample": True, "num_return_sequences": 4}):
        generate(begin, torch.tensor([[0]]), GenerationConfig(max_new_tokens=5, pad_token_id=0, **options))
    assert begun == [5, 5]


def test_nothing_is_run_before_the_arguments_are_checked():
    never = lambda most: pytest.fail("begun")  # noqa: E731
    ids = torch.tensor([[5, 6]])
    for config, options, message in (
        (GenerationConfig(max_length=2), {}, "max_length 2 leaves no room"),
        (GenerationConfig(), {"prompt_mask": torch.ones(1, 3)}, r"prompt_mask is \[1, 3\]"),
        (GenerationConfig(guidance_scale=2.0), {}, "guidance_scale"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(never, ids, config, **options)


def test_without_prompt_ids_only_new_tokens_come_back_and_lengths_count_the_embeddings():
    config = GenerationConfig(max_length=9, eos_token_id=None)
    empty = torch.empty(1, 0, dtype=torch.long)
    out = generate(lambda most: Table(SHORT_OR_LONG, 0), empty, config, prompt_length=5)
    assert out.shape == (1, 4)
