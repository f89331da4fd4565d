"""Captured steps: operations done again over whole buffers give the tokens of steps that run as they come.

On a GPU a graph is replayed; here a recording of the same operations is (tests/recorded.py). What only a GPU can show
is in tests/test_cuda.py.
"""

from __future__ import annotations

import gc
import logging
import random
import weakref

import pytest
import torch

from onlooker.engine import Engine
from onlooker.language import replay
from tests.engine.tiny_requests import FAMILIES, WAYS, options, prompt, tiny
from tests.recorded import Graphs
from tests.tiny import VOCAB


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    made = Graphs()
    monkeypatch.setattr(replay, "capture", made.capture)
    monkeypatch.setattr(replay, "kept_bytes", lambda device: 1 << 30)
    monkeypatch.setattr(replay, "_STEPS", weakref.WeakKeyDictionary())
    return made


@pytest.fixture
def on(monkeypatch):
    """Switches captured steps on for the CPU."""
    return lambda: monkeypatch.setattr(replay, "DEVICES", ("cpu",))


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny(request.param)


def batch(rows=3, width=7, seed=0):
    """Ids and a mask, rows padded on the left."""
    rng = random.Random(seed)
    lengths = torch.tensor([width, *(rng.randint(2, width) for _ in range(rows - 1))])
    mask = (torch.arange(width) >= width - lengths[:, None]).long()
    ids = torch.randint(4, VOCAB, (rows, width), generator=torch.Generator().manual_seed(seed))
    return ids.masked_fill(mask == 0, 1), mask


def answers(model, way="greedy", seed=0, new=14, **more):
    ids, mask = batch(seed=seed)
    asked = {**options(way, seed, new), "eos_token_id": [3], **more}
    if way == "sample":
        asked["generator"] = [torch.Generator().manual_seed(seed + row) for row in range(len(ids))]
    return model.generate(ids, mask, **asked)


WAYS = {**WAYS, "contrastive": {"penalty_alpha": 0.6, "top_k": 4}}


@pytest.mark.parametrize("way", WAYS)
def test_a_replayed_batch_with_left_padding_has_the_tokens_of_an_ordinary_one(model, way, on, graphs):
    more = WAYS[way] if way == "contrastive" else {}
    name = "greedy" if way == "contrastive" else way
    wanted = [answers(model, name, seed, **more).tolist() for seed in range(3)]
    assert not graphs.captures
    on()
    assert [answers(model, name, seed, **more).tolist() for seed in range(3)] == wanted
    assert graphs.captures == 1, "later calls of the same shape replay the step of the first"
    assert graphs.replays > 12


@pytest.mark.parametrize("way", ["greedy", "beams"])
def test_a_single_row_without_pads_is_replayed_too(model, way, on, graphs):
    wanted = [model.write(prompt(model, 4 + n, media=3, seed=n), None, options(way, n, 12)).tolist() for n in range(3)]
    on()
    again = [model.write(prompt(model, 4 + n, media=3, seed=n), None, options(way, n, 12)).tolist() for n in range(3)]
    assert again == wanted
    assert graphs.captures == 1


def test_logits_that_are_kept_are_not_written_over(model, on):
    asked = {"return_dict_in_generate": True, "output_logits": True, "output_scores": True}
    wanted = answers(model, **asked)
    on()
    found = answers(model, **asked)
    assert found.sequences.tolist() == wanted.sequences.tolist()
    for name in ("logits", "scores"):
        for ours, theirs in zip(found[name], wanted[name], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inside", [False, True])
def test_decodings_that_run_by_turns_have_a_step_each(model, on, graphs, inside):
    on()
    ids, mask = batch(2)
    wanted = [model.generate(ids, mask, max_new_tokens=12, eos_token_id=None).tolist() for _ in range(2)][0]
    decodings = []
    with torch.inference_mode(inside), torch.no_grad():
        start = {"decoder_input_ids": torch.zeros(2, 1, dtype=torch.long)} if hasattr(model, "encoder") else {}
        decodings = [model.begin(model.get_input_embeddings()(ids), mask, 12, **start) for _ in range(2)]
        written: list[list[torch.Tensor]] = [[], []]
        for _ in range(11):
            for decoding, tokens in zip(decodings, written):
                tokens.append(decoding.logits.argmax(-1))
                decoding.step(tokens[-1])
    for tokens in written:
        assert torch.stack(tokens, 1).tolist() == [row[-12:-1] for row in wanted]
    assert decodings[0].captured is not decodings[1].captured
    assert graphs.captures == (3 if inside else 2), "what was made in inference mode stays there"


def test_weights_are_read_where_they_are_now(on, graphs):
    model = tiny.__wrapped__("llama", 7)
    head, other = model.lm_head.weight, torch.nn.Parameter(-model.lm_head.weight.detach())
    wanted = [answers(model).tolist()]
    for change in (lambda: head.data[::2].neg_(), lambda: setattr(model.lm_head, "weight", other)):
        change()
        wanted.append(answers(model).tolist())
    head.data[::2].neg_()
    model.lm_head.weight = head
    on()
    found = [answers(model).tolist()]
    head.data[::2].neg_()
    found.append(answers(model).tolist())
    assert graphs.captures == 1, "written to in place, weights are where they were"
    model.lm_head.weight = other
    found.append(answers(model).tolist())
    assert graphs.captures == 2
    assert found == wanted
    assert wanted[0] != wanted[1] != wanted[2], "or this test shows nothing"


def test_what_hangs_on_calls_is_called_every_time(on, graphs):
    on()
    model, calls = tiny.__wrapped__("opt", 7), []
    model.lm_head.register_forward_hook(lambda *given: calls.append(given))
    answers(model, eos_token_id=None, new=14)
    assert len(calls) == 14
    assert not graphs.captures


def test_what_cannot_be_captured_runs_as_it_comes_and_says_so_once(model, on, monkeypatch, caplog):
    wanted = answers(model).tolist()
    on()

    def refuse(work, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replay, "capture", refuse)
    with caplog.at_level(logging.DEBUG, "onlooker"):
        assert answers(model).tolist() == wanted
        assert answers(model).tolist() == wanted
    assert len(caplog.messages) == 1
    assert "run operation by operation, for they cannot be captured: operation not permitted" in caplog.text


def test_steps_beyond_the_room_go_on(model, on, graphs):
    ids, mask = batch(2)
    wanted = model.generate(ids, mask, max_new_tokens=72, eos_token_id=None)[:, -71:].tolist()
    on()
    with torch.no_grad():
        start = {"decoder_input_ids": torch.zeros(2, 1, dtype=torch.long)} if hasattr(model, "encoder") else {}
        decoding = model.begin(model.get_input_embeddings()(ids), mask, 2, **start)
        tokens = [decoding.logits.argmax(-1)]
        for _ in range(71):
            tokens.append(decoding.step(tokens[-1]).argmax(-1))
    assert torch.stack(tokens, 1)[:, 1:].tolist() == wanted
    assert graphs.captures == 2


def test_an_earlier_answers_infinities_stay_its_own(model, on):
    wanted = answers(model).tolist()
    on()
    answers(model)
    for step in replay._STEPS[model]._kept:
        for part in step.cache.parts:
            for buffer in (*part.keys, *part.values):
                buffer.fill_(float("inf"))
    assert answers(model).tolist() == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_kept_within_their_share_and_go_with_their_model(family, on, monkeypatch):
    on()
    model = tiny.__wrapped__(family, 3)
    answers(model)
    (step,) = replay._STEPS[model]._kept
    assert step.owner() is None and step.key[:2] == (3, 64)
    monkeypatch.setattr(replay, "kept_bytes", lambda device, size=step.nbytes: size)
    model.generate(batch(2)[0], max_new_tokens=12, eos_token_id=None)
    (other,) = replay._STEPS[model]._kept
    assert other.key[0] == 2, "the one used last stays"
    monkeypatch.setattr(replay, "kept_bytes", lambda device: 0)
    model.generate(batch(1)[0], max_new_tokens=12, eos_token_id=None)
    assert not replay._STEPS[model]._kept
    gone = weakref.ref(other.cache)
    del step, other, model
    gc.collect()
    assert gone() is None and not replay._STEPS


def test_shapes_are_few_and_waste_little():
    sizes = [replay.rounded(columns) for columns in range(1, 5000)]
    assert all(size >= columns and size % 64 == 0 for columns, size in enumerate(sizes, 1))
    assert all(size <= max(64, 1.25 * columns + 64) for columns, size in enumerate(sizes, 1))
    assert len(set(sizes)) <= 26


@pytest.mark.parametrize("family", FAMILIES)
def test_an_engine_with_beams_samples_and_cancelled_rows_answers_as_each_alone(family, on, graphs):
    model, rng = tiny(family), random.Random(1)
    ways = list(options.__globals__["WAYS"])
    asked = [(prompt(model, rng.randint(2, 9), seed=n), ways[n % len(ways)], n, rng.randint(6, 40)) for n in range(24)]
    wanted = [model.write(each, None, options(way, seed, new)).tolist() for each, way, seed, new in asked]
    on()
    engine = Engine(model, max_rows=8)
    requests = [engine.submit(each, **options(way, seed, new)) for each, way, seed, new in asked]
    cancelled = engine.submit(prompt(model, 5, seed=77), max_new_tokens=60, eos_token_id=None)
    steps = 0
    while not engine.is_idle:
        engine.step()
        steps += 1
        if len(cancelled.tokens) == 5:
            cancelled.cancel()
    assert [request.result().tolist() for request in requests] == wanted
    assert cancelled.state == "cancelled"
    assert graphs.replays > steps / 3
    assert not engine.cache_bytes
