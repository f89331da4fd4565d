"""Ways to end, and text while it is written."""

from __future__ import annotations

import time

import pytest
import torch

from onlooker.generate.stop import Stops
from onlooker.generate.stream import IteratorStreamer, TextStreamer
from tests.generate.borrowed import EOS, ours, theirs

LETTERS = "..." + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJK"


class Letters:
    """A tokenizer of one letter a token, and its incremental half."""

    def decode(self, ids):
        return "".join(LETTERS[i] for i in ids)

    def put(self, ids):
        return self.decode(ids)

    def end(self):
        return "$"


ROW = torch.tensor([[8, 7, 9]])


def free_run(**options):
    return ours("opt", ROW, max_new_tokens=12, eos_token_id=None, pad_token_id=1, **options)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_a_stop_string_ends_the_row_with_the_token_that_completes_it(options):
    text = Letters().decode(free_run()[0, 3:].tolist())
    stop = text[3:6]
    out = free_run(stop_strings=["never there", stop], call={"tokenizer": Letters()}, **options)
    said = Letters().decode(out[0, 3:].tolist())
    if options:
        assert said.endswith(stop) or len(said) == 12
    else:
        assert said == text[: text.index(stop) + 3]


def test_the_prompt_cannot_complete_a_stop_string_and_a_tokenizer_is_needed():
    prompt = Letters().decode(ROW[0].tolist())
    out = free_run(stop_strings=prompt, call={"tokenizer": Letters()})
    assert out.shape[1] == 15
    with pytest.raises(ValueError, match=r"stop_strings needs the tokenizer.*tokenizer=tokenizer"):
        free_run(stop_strings="x")


def test_every_end_token_of_a_list_ends_a_row_like_in_the_reference():
    row = free_run()[0, 3:].tolist()
    for ends in ([row[4], row[2]], row[3], torch.tensor([row[5]])):
        options = {"max_new_tokens": 12, "eos_token_id": ends, "pad_token_id": 1}
        assert ours("opt", ROW, **options).tolist() == theirs("opt", ROW, **options).tolist()


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"penalty_alpha": 0.5, "top_k": 3}])
def test_max_time_ends_after_the_first_token_when_it_is_over(options):
    assert free_run(max_time=0.0, **options).shape[1] == 4
    assert free_run(max_time=600.0, **options).shape[1] == 15


def test_criteria_may_answer_for_all_rows_or_for_each():
    ids = torch.cat([ROW, ROW + 1])
    seen = []

    def each(ids, scores):
        seen.append(scores)
        return torch.tensor([ids.shape[1] >= 5, ids.shape[1] >= 7])

    out = ours("opt", ids, max_new_tokens=12, eos_token_id=None, pad_token_id=1, call={"stopping_criteria": each})
    assert out.shape[1] == 7 and (out[0, 5:] == 1).all() and seen[0] is None
    every = lambda ids, scores: ids.shape[1] >= 6  # noqa: E731
    for options in ({}, {"num_beams": 2}):
        call = {"stopping_criteria": [every]}
        out = ours("opt", ids, max_new_tokens=12, call=call, eos_token_id=None, pad_token_id=1, **options)
        assert out.shape[1] == 6


def test_a_custom_filter_gets_the_ids_and_its_scores_count():
    widths = []

    def only_five(ids, scores):
        widths.append(ids.shape[1])
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([5]), 0.0)

    out = free_run(call={"logits_processor": [only_five]}, repetition_penalty=3.0)
    assert set(out[0, 3:].tolist()) == {5} and widths == list(range(3, 15))


def test_a_streamer_gets_the_prompt_then_every_token():
    got = []

    class Streamer:
        put = staticmethod(lambda ids: got.append(ids.tolist()))
        end = staticmethod(lambda: got.append("end"))

    out = free_run(call={"streamer": Streamer()})
    assert got == [ROW.tolist(), *[[token] for token in out[0, 3:].tolist()], "end"]
    with pytest.raises(ValueError, match="a streamer cannot follow num_beams=2"):
        free_run(num_beams=2, call={"streamer": Streamer()})


def test_streamed_text_is_the_text_without_the_prompt_unless_asked():
    for skip in (True, False):
        pieces = []
        out = free_run(call={"streamer": TextStreamer(Letters(), pieces.append, skip_prompt=skip)})
        assert "".join(pieces) == Letters().decode(out[0, 3 if skip else 0 :].tolist()) + "$"
    with pytest.raises(ValueError, match="one text is streamed at a time, but 2 rows came"):
        TextStreamer(Letters(), pieces.append).put(torch.ones(2, 3))


def test_text_can_be_iterated_over_while_a_thread_writes_it():
    streamer = IteratorStreamer(Letters(), timeout=60)
    thread = streamer.start(lambda: free_run(call={"streamer": streamer}))
    assert "".join(streamer) == Letters().decode(free_run()[0, 3:].tolist()) + "$"
    thread.join()


def test_an_error_in_the_writing_thread_reaches_the_reader_and_silence_times_out():
    def fail(ids, scores):
        raise RuntimeError("in the middle")

    streamer = IteratorStreamer(Letters(), timeout=60)
    streamer.start(lambda: free_run(call={"streamer": streamer, "logits_processor": fail}))
    with pytest.raises(RuntimeError, match="in the middle"):
        list(streamer)
    pieces = []
    with pytest.raises(RuntimeError, match="in the middle"):
        free_run(call={"streamer": TextStreamer(Letters(), pieces.append), "logits_processor": fail})
    assert pieces == ["$"], "a streamer that knows no abort() is ended"
    streamer = IteratorStreamer(Letters(), timeout=0.01)
    with pytest.raises(TimeoutError, match=r"no text within 0.01 seconds"):
        list(streamer)


def test_the_clock_starts_with_the_call_and_special_tokens_do_not_hide_a_stop():
    class Quiet(Letters):
        def decode(self, ids):
            return super().decode([i for i in ids if i != EOS])

    from onlooker.generate.config import GenerationConfig

    stops = Stops(GenerationConfig(stop_strings="ab"), None, Quiet(), prompt=1)
    ids = torch.tensor([[9, 3, *[EOS] * 10, 4], [3, 5, *[EOS] * 10, 4]])
    assert stops.told(ids, None).tolist() == [True, False]
    late = Stops(GenerationConfig(max_time=0.01), None, None, prompt=0)
    time.sleep(0.02)
    assert late.told(ids, None).all()
