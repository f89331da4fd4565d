"""Nothing waits for a GPU between the checks whether rows are finished; on a stand-in for one (tests/faraway.py)."""

from __future__ import annotations

import pytest
import torch

from onlooker.engine import Engine
from onlooker.models.generation import Prompt
from tests.engine.tiny_requests import FAMILIES, WAYS, options, prompt, tiny
from tests.faraway import PLACE, Far, Faraway, send
from tests.tiny import VOCAB

WAYS = {**WAYS, "forced": {"suppress_tokens": [5], "begin_suppress_tokens": [6], "forced_eos_token_id": 4}}
IDS = torch.tensor([[1, 1, 5, 6, 7], [4, 5, 6, 7, 8]])
MASK = (IDS != 1).long()
RECORD = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}


@pytest.fixture(params=FAMILIES)
def pair(request):
    """A model here, and the same elsewhere."""
    with torch.no_grad(), Faraway():
        there = tiny.__wrapped__(request.param)
        send(there)
    return tiny(request.param), there


def asked(way, new, **more):
    found = options(way if way != "forced" else "greedy", 0, new) | WAYS[way] | more
    if found.get("do_sample"):
        found["generator"] = [torch.Generator().manual_seed(row) for row in range(len(IDS))]
    return found


def looks(model, way, new, **more):
    """How often a run of so many tokens waits."""
    with torch.no_grad(), Faraway() as place:
        out = model.generate(Far(IDS), Far(MASK), **asked(way, new, **more))
        ids = out if isinstance(out, torch.Tensor) else out.sequences
        assert ids.device == PLACE and ids.shape[1] == new + (1 if hasattr(model, "encoder") else IDS.shape[1])
        return place.looks


@pytest.mark.parametrize("way", WAYS)
def test_eight_more_tokens_are_waited_for_once(pair, way):
    _, there = pair
    endless = {"eos_token_id": [VOCAB + 1], "early_stopping": False, "length_penalty": 1.0}
    few, more = (looks(there, way, new, **endless) for new in (3, 11))
    assert more - few == 1
    assert looks(there, way, 11, **endless, **RECORD) == more, "nor does a record wait"


@pytest.mark.parametrize("way", WAYS)
def test_looking_seldom_changes_nothing(pair, way):
    here, there = pair
    wanted = here.generate(IDS, MASK, **asked(way, 20), **RECORD)
    with torch.no_grad(), Faraway():
        found = there.generate(Far(IDS), Far(MASK), **asked(way, 20), **RECORD)
    assert found.sequences.near.tolist() == wanted.sequences.tolist()
    for name in ("scores", "logits"):
        for ours, theirs in zip(found[name], wanted[name], strict=True):
            torch.testing.assert_close(ours.near, theirs, atol=1e-4, rtol=1e-4)


def test_a_step_and_a_change_of_rows_wait_for_nothing(pair):
    _, there = pair
    start = {}
    with torch.no_grad(), Faraway() as place:
        if hasattr(there, "encoder"):
            start = {"decoder_input_ids": torch.zeros(2, 1, dtype=torch.long, device=PLACE)}
        decoding = there.begin(there.get_input_embeddings()(Far(IDS)), Far(MASK), 9, **start)
        place.may_look = False
        decoding.select(Far(torch.tensor([0, 0, 1, 1])))
        for _ in range(4):
            decoding.step(decoding.logits.argmax(-1))
            decoding.select(Far(torch.tensor([1, 0, 3, 3])))
        with pytest.raises(AssertionError, match="waits for the device"):
            bool(decoding.logits[0, 0] > 0)


def test_nothing_is_waited_for_once_the_prompt_is_on_its_way(pair):
    _, there = pair
    is_t5 = hasattr(there, "encoder")
    with torch.no_grad(), Faraway() as place:

        def forbid(*_):
            place.may_look = False

        first = next(each for each in there.modules() if type(each).__name__ in ("OPTLayer", "LlamaLayer", "T5Block"))
        hook = first.register_forward_pre_hook(forbid)
        start = {"decoder_input_ids": torch.zeros(2, 1, dtype=torch.long, device=PLACE)} if is_t5 else {}
        decoding = there.begin(there.get_input_embeddings()(Far(IDS)), Far(MASK), 9, **start)
        hook.remove()
        for _ in range(3):
            decoding.step(decoding.logits.argmax(-1))
        assert not place.may_look


def test_the_engine_waits_once_a_step_for_its_greedy_rows(pair):
    here, there = pair
    given, endless = [prompt(here, 3 + n, seed=n) for n in range(3)], {"eos_token_id": None, "max_new_tokens": 12}
    wanted = [here.write(each, None, dict(endless)).tolist() for each in given]
    with torch.no_grad(), Faraway() as place:
        engine = Engine(there)
        far = [Prompt(Far(each.embeds), Far(each.mask), Far(each.ids)) for each in given]
        requests = [engine.submit(each, **endless) for each in far]
        engine.step()
        place.looks = 0
        engine.step()
        assert place.looks == 1
        engine.run()
        assert [request.result().near.tolist() for request in requests] == wanted
