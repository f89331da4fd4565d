"""What the engine promises beside equal answers: streams, limits, long prompts, known prefixes, errors."""

from __future__ import annotations

import pytest
import torch

from onlooker.engine import Engine
from onlooker.engine.room import Limits, Room
from onlooker.language.choose import begin
from tests.engine.tiny_requests import FAMILIES, alone, options, prompt, tiny


@pytest.fixture(params=FAMILIES)
def model(request):
    return tiny(request.param)


class Heard:
    """A streamer that keeps what it is told."""

    def __init__(self):
        self.said, self.error = [], None

    def put(self, value):
        self.said += value.flatten().tolist()

    def end(self):
        self.said.append("end")

    def abort(self, error):
        self.error = error


def free(count):
    """Options of a request that writes exactly so many tokens."""
    return {"max_new_tokens": count, "eos_token_id": None}


def test_tokens_are_streamed_while_others_go_on(model):
    engine, heard = Engine(model), Heard()
    other = engine.submit(prompt(model, 3, seed=1), **free(12))
    asked = prompt(model, 4, seed=2)
    request = engine.submit(asked, **free(6), streamer=heard)
    stream = engine.stream(request)
    first = next(stream)
    assert request.tokens[0] == first and request.state == "running"
    assert [first, *stream] == request.tokens == heard.said[request.task.ids.shape[1] : -1]
    assert len(request.tokens) == 6 and heard.said[-1] == "end"
    assert other.state == "running" and len(other.tokens) >= 6
    engine.run()
    assert other.state == "finished" and engine.is_idle


def test_a_cancelled_request_leaves_at_the_next_step_wherever_it_is(model):
    engine, heard = Engine(model, max_rows=2), Heard()
    running = engine.submit(prompt(model, 3), **free(20), streamer=heard)
    staying = engine.submit(prompt(model, 5, seed=1), **free(20))
    waiting = engine.submit(prompt(model, 4), **free(20))
    engine.step()
    assert [each.state for each in (running, staying, waiting)] == ["running", "running", "waiting"]
    running.cancel()
    waiting.cancel()
    assert engine.step() == 1
    assert running.state == waiting.state == "cancelled"
    assert heard.said[-1] == "end" and len(running.tokens) == 2
    with pytest.raises(RuntimeError, match="the request is cancelled"):
        running.result()
    engine.run()
    assert staying.result().tolist() == model.write(prompt(model, 5, seed=1), None, free(20)).tolist()


def test_one_requests_error_is_its_own(model):
    def broken(ids, scores):
        if ids.shape[1] > len(asked.ids[0]) + 2 or hasattr(model, "encoder") and ids.shape[1] > 3:
            raise KeyError("a filter of the caller's")
        return scores

    engine, heard, asked = Engine(model), Heard(), prompt(model, 3)
    bad = engine.submit(asked, **free(9), logits_processor=broken, streamer=heard)
    good = engine.submit(prompt(model, 4, seed=1), **free(9))
    engine.run()
    assert good.state == "finished" and bad.state == "failed" and 0 < len(bad.tokens) < 9
    assert isinstance(heard.error, KeyError)
    with pytest.raises(KeyError, match="the caller's"):
        bad.result()


def test_an_error_of_the_model_is_told_to_everyone_who_waits_and_leaves_nothing_behind(model):
    engine, heard = Engine(model, max_rows=1), Heard()
    requests = [engine.submit(prompt(model, 3), **free(9), streamer=heard), engine.submit(prompt(model, 3), **free(9))]
    engine.step()
    engine._rows._decoding.step = lambda token_ids: 1 / 0
    with pytest.raises(ZeroDivisionError):
        engine.step()
    assert [each.state for each in requests] == ["failed", "failed"] and isinstance(heard.error, ZeroDivisionError)
    assert engine.is_idle and engine.cache_bytes == 0
    again = engine.submit(prompt(model, 3), **free(4))
    engine.run()
    assert again.state == "finished"


def test_caches_stay_below_their_limit_and_everyone_is_served(model):
    most = int(1.5 * Engine(model).limits.size(Room(2, 40, 40)))
    engine = Engine(model, max_rows=16, max_cache_bytes=most)
    asked = [
        (prompt(model, 1 + n % 5, media=n * 7 % 13, seed=n), ("beams", "greedy")[n % 2], n, 4 + n % 9)
        for n in range(14)
    ]
    asked = [
        (each, "greedy" if way == "beams" and number % 4 else way, number, new) for each, way, number, new in asked
    ]
    requests = [engine.submit(each, **options(way, seed, new)) for each, way, seed, new in asked]
    rows = []
    while not engine.is_idle:
        rows.append(engine.step())
        assert engine.cache_bytes <= most
    assert max(rows) > 1
    for request, (each, way, seed, new) in zip(requests, asked):
        assert request.result().tolist() == alone(model, each, way, seed, new).tolist()
    with pytest.raises(ValueError, match=f"must fit into max_cache_bytes {most}"):
        engine.submit(prompt(model, 3), max_new_tokens=400 if model.config.model_type != "opt" else 70, num_beams=16)


def test_buffers_grow_in_blocks_and_shrink_when_half_is_free():
    limits = Limits(max_rows=12, max_bytes=None, position_bytes=1, source_bytes=1, layers=2)
    assert limits.grown(Room(), Room(5, 70, 0)) == Room(8, 128, 0)
    assert limits.grown(Room(8, 128, 0), Room(9, 20, 3)) == Room(12, 128, 64)
    assert limits.shrunk(Room(8, 128, 0), Room(5, 90, 0)) is None
    assert limits.shrunk(Room(8, 128, 0), Room(4, 60, 0)) == Room(4, 64, 0)
    tight = Limits(max_rows=12, max_bytes=1000, position_bytes=1, source_bytes=1, layers=2)
    assert tight.grown(Room(), Room(5, 150, 0)) == Room(5, 150, 0), "rounded up it would not fit"
    assert tight.grown(Room(4, 150, 0), Room(5, 150, 0)) is None, (
        "the old buffer of a layer is there while it is copied"
    )
    assert tight.grown(Room(4, 100, 0), Room(5, 150, 0), arriving=100) is None


def test_memory_is_given_back_while_others_go_on(model):
    engine = Engine(model)
    last = engine.submit(prompt(model, 3), **free(24))
    for seed in range(7):
        engine.submit(prompt(model, 3, seed=seed), **free(4))
    engine.step()
    most = engine.cache_bytes
    while engine.num_rows > 1:
        engine.step()
    assert last.state == "running" and engine.cache_bytes <= most // 4


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_a_long_prompt_is_run_in_parts_between_the_steps_of_others(family):
    model = tiny(family)
    engine = Engine(model, prefill=6)
    short, long = prompt(model, 3), prompt(model, 5, media=20, seed=1)
    first = engine.submit(short, **free(12))
    engine.step()
    second = engine.submit(long, **options("sample", 7, 8))
    written = []
    while second.state == "waiting":
        engine.step()
        written.append(len(first.tokens))
    assert len(written) == 5 and written == sorted(set(written)), "25 positions are 5 parts, one a step"
    engine.run()
    assert first.result().tolist() == model.write(short, None, free(12)).tolist()
    assert second.result().tolist() == alone(model, long, "sample", 7, 8).tolist()
    cancelled = engine.submit(long, **free(4))
    engine.step()
    assert engine.cache_bytes and not engine.is_idle
    cancelled.cancel()
    engine.step()
    assert engine.is_idle and engine.cache_bytes == 0 and cancelled.state == "cancelled"


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_a_long_prompt_and_short_ones_that_come_with_it_keep_to_any_limit(family):
    model = tiny(family)
    limits = Engine(model).limits
    for columns in range(56, 160, 4):
        most = limits.size(Room(1, columns))
        engine = Engine(model, max_cache_bytes=most, prefill=20)
        requests = [engine.submit(prompt(model, 5, media=media), **free(4)) for media in (8, 17, 9)]
        while not engine.is_idle:
            engine.step()
            assert engine.cache_bytes <= most
        assert [request.state for request in requests] == ["finished"] * 3


@pytest.mark.parametrize("family", ["opt", "llama"])
def test_a_request_goes_on_from_a_known_part_of_its_prompt(family):
    model = tiny(family)
    engine, asked = Engine(model), prompt(model, 4, media=6)
    plain = alone(model, asked, "beams", 0, 7)
    known = begin(model, asked.embeds[:, :6], None, 0).snapshot()
    asked.begin = lambda most: begin(model, asked.embeds[:, 6:], None, most, prefix=known)
    requests = [engine.submit(asked, **options("beams", 0, 7)), engine.submit(prompt(model, 3), **free(5))]
    engine.run()
    assert requests[0].result().tolist() == plain.tolist()


def test_a_record_is_given_where_it_is_asked_for(model):
    engine, asked = Engine(model), prompt(model, 4)
    wanted = {"return_dict_in_generate": True, "output_scores": True, **options("beams", 0, 6)}
    request = engine.submit(asked, **wanted)
    engine.submit(prompt(model, 2), **free(9))
    engine.run()
    record, want = request.result(), model.write(asked, None, wanted)
    assert record.sequences.tolist() == want.sequences.tolist()
    torch.testing.assert_close(record.sequences_scores, want.sequences_scores)


def test_a_request_that_needs_many_rows_lets_others_use_the_few_that_are_free(model):
    engine = Engine(model, max_rows=4)
    engine.submit(prompt(model, 2), **free(9))
    wide = engine.submit(prompt(model, 2), **{**options("beams", 0, 4), "num_beams": 4})
    narrow = [engine.submit(prompt(model, 2, seed=seed), **free(4)) for seed in range(3)]
    assert engine.step() == 4 and wide.state == "waiting"
    assert [request.state for request in narrow] == ["running"] * 3
    engine.run()


def test_a_request_that_needs_many_rows_is_not_passed_for_ever(model):
    engine = Engine(model, max_rows=4)
    for seed in range(3):
        engine.submit(prompt(model, 2, seed=seed), **free(4 + 2 * seed))  # so that never all rows end at once
    wide = engine.submit(prompt(model, 2), **{**options("beams", 0, 4), "num_beams": 4})
    steps = 0
    while wide.state != "finished":
        engine.submit(prompt(model, 2, seed=steps), **free(6))
        engine.step()
        steps += 1
        assert steps < 60
    engine.run()


def test_what_the_engine_cannot_do_is_refused_when_it_is_asked_for(model):
    engine = Engine(model, max_rows=2)
    with pytest.raises(ValueError, match="needs 3 rows, and the engine has max_rows 2"):
        engine.submit(prompt(model, 3), num_beams=3)
    with pytest.raises(ValueError, match="penalty_alpha=0.6 needs a batch of its own"):
        engine.submit(prompt(model, 3), penalty_alpha=0.6, top_k=4)
    with pytest.raises(ValueError, match="use_cache=False needs a batch of its own"):
        engine.submit(prompt(model, 3), use_cache=False)
    with pytest.raises(ValueError, match="did you mean num_beams"):
        engine.submit(prompt(model, 3), num_beam=3)
    two = prompt(model, 3)
    two.embeds, two.mask, two.ids = two.embeds.repeat(2, 1, 1), two.mask.repeat(2, 1), two.ids.repeat(2, 1)
    with pytest.raises(ValueError, match="one prompt, and 2 came"):
        engine.submit(two)
    with pytest.raises(ValueError, match="max_rows is 0"):
        Engine(model, max_rows=0)
    assert engine.is_idle
    with pytest.raises(RuntimeError, match="the request is waiting; run the engine"):
        engine.submit(prompt(model, 3)).result()


def test_opt_is_not_sent_beyond_its_table_of_positions():
    model = tiny("opt")
    with pytest.raises(ValueError, match="take 83 positions, and the language model has 80"):
        Engine(model).submit(prompt(model, 3), max_new_tokens=80)


def test_guesses_from_the_prompt_are_left_out_and_change_nothing(model):
    engine, asked = Engine(model), prompt(model, 6)
    request = engine.submit(asked, **free(8), prompt_lookup_num_tokens=3)
    engine.run()
    assert request.result().tolist() == model.write(asked, None, free(8)).tolist()
