"""A prompt run once can be continued, joined by other rows, and looked ahead of: each equals the plain way."""

from __future__ import annotations

import pytest
import torch

from onlooker.language.t5 import T5LanguageModel
from onlooker.nn.cache import KVCache
from onlooker.nn.prefix import KVPrefix, SourcePrefix
from tests.compare import assert_close
from tests.language.test_language_models import begin, llama_pair, opt_pair, t5_pair, words

DECODERS = {"opt": opt_pair, "llama": llama_pair}
ALL = {**DECODERS, "t5": t5_pair}
LEFT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])


@pytest.fixture(params=DECODERS)
def decoder(request):
    return DECODERS[request.param](3)[0]


@pytest.fixture(params=ALL)
def model(request):
    return ALL[request.param](3)[0]


def embed(model, ids):
    return model.get_input_embeddings()(ids)


def alone(model, ids, row, mask=None):
    kept = slice(None) if mask is None else mask[row].bool()
    return begin(model, ids[row : row + 1, kept], None, 8)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_prompt_continued_from_a_snapshot_has_the_logits_of_the_whole(decoder, cut):
    ids = words(1, 9)
    whole = begin(decoder, ids, None, 4)
    prefix = begin(decoder, ids[:, :cut], None, 0).snapshot()
    assert prefix.length == cut and prefix.nbytes == sum(each.nbytes for each in prefix.tensors().values())
    again = KVPrefix.from_tensors(prefix.tensors())
    rest = decoder.begin(embed(decoder, ids[:, cut:]), None, 4, prefix=again)
    assert_close(rest.logits, whole.logits)
    for step in range(4):
        token = words(1, 1, step)[0]
        assert_close(rest.step(token), whole.step(token))


def test_rows_of_unequal_rests_share_one_prefix_and_leave_it_as_it_was(decoder):
    start, rests = words(1, 5), words(3, 4, 1)
    long = begin(decoder, torch.cat([start, words(1, 3, 2)], dim=1), None, 0)
    prefix = long.snapshot(length=5)
    before = {name: value.clone() for name, value in long.snapshot().cut(5).tensors().items()}
    batch = decoder.begin(embed(decoder, rests), LEFT, 3, prefix=prefix)
    singles = [
        begin(decoder, torch.cat([start, rests[row : row + 1, LEFT[row].bool()]], dim=1), None, 3) for row in range(3)
    ]
    for step in range(3):
        assert_close(batch.logits, torch.cat([each.logits for each in singles]))
        tokens = words(3, 1, step)[:, 0]
        batch.step(tokens)
        for row, each in enumerate(singles):
            each.step(tokens[row : row + 1])
    assert all(torch.equal(value, before[name]) for name, value in prefix.tensors().items())


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_a_prompt_run_in_chunks_has_the_logits_and_states_of_the_whole(decoder, chunk):
    ids, mask = words(3, 4), LEFT
    whole = decoder.begin(embed(decoder, ids), mask, 2)
    parts = decoder.begin(embed(decoder, ids), mask, 2, chunk=chunk)
    assert_close(parts.logits, whole.logits)
    assert_close(parts.hidden, whole.hidden, keep=torch.arange(4) < whole.lengths[:, None])
    tokens = words(3, 1)[:, 0]
    assert_close(parts.step(tokens), whole.step(tokens))


def test_a_prompt_can_be_extended_part_by_part(decoder):
    ids = words(2, 9)
    whole, parts = begin(decoder, ids, None, 2), begin(decoder, ids[:, :4], None, 7)
    parts.extend(embed(decoder, ids[:, 4:6]))
    parts.extend(embed(decoder, ids[:, 6:]))
    assert_close(parts.logits, whole.logits)


def test_a_snapshot_of_t5_spares_the_encoder_and_gives_the_same_logits():
    model, _ = t5_pair(3)
    ids, start = words(3, 4), torch.zeros(2, 1, dtype=torch.long)
    whole = begin(model, ids, LEFT, 3)
    prefix = SourcePrefix.from_tensors(whole.snapshot(row=2).tensors())
    assert prefix.length == 3
    model.encoder = None  # not needed from here on
    twice = model.begin(None, None, 3, prefix=prefix, decoder_input_ids=start)
    for step in range(3):
        assert_close(twice.logits, whole.logits[[2, 2]])
        tokens = words(1, 1, step)[0]
        twice.step(tokens.expand(2))
        whole.step(tokens.expand(3))


def test_what_cannot_be_continued_is_refused(decoder):
    ids = words(1, 3)
    decoding = begin(decoder, ids, None, 0)
    prefix = decoding.snapshot()
    with pytest.raises(ValueError, match="3 positions; a snapshot of 4"):
        decoding.snapshot(length=4)
    with pytest.raises(ValueError, match="no position to run: cut the prefix one shorter"):
        decoder.begin(embed(decoder, ids[:, :0]), None, 2, prefix=prefix)
    with pytest.raises(ValueError, match="leave use_cache on"):
        decoder.begin(embed(decoder, ids), None, 2, use_cache=False, prefix=prefix)
    with pytest.raises(ValueError, match="first 9"):
        prefix.cut(9)


def test_tokens_run_at_once_have_the_logits_of_steps_and_as_many_are_kept_as_wanted(model):
    ids, tokens = words(3, 4), words(3, 3, 1)
    ahead, plain = begin(model, ids, LEFT, 8), begin(model, ids, LEFT, 8)
    for count in (2, 1, 3):
        logits = ahead.run(tokens)
        steps = torch.stack([plain.step(tokens[:, n]) for n in range(count)], dim=1)
        assert_close(logits[:, :count], steps)
        ahead.keep(count)
        assert_close(ahead.logits, plain.logits)
    token = words(3, 1, 2)[:, 0]
    assert_close(ahead.step(token), plain.step(token))


def test_continuations_side_by_side_have_the_logits_that_each_has_alone(model):
    ids, rows = words(1, 4), [words(1, length, length)[0] for length in (3, 1, 2)]
    owners = torch.tensor([0, 0, 0, 1, 2, 2])
    decoding = begin(model, ids, None, 6)
    together = decoding.run(torch.cat(rows)[None], owners)[0]
    for owner, row in enumerate(rows):
        single = begin(model, ids, None, 6)
        assert_close(together[owners == owner], torch.cat([single.step(token[None]) for token in row]))
    token = words(1, 1, 7)[0]
    assert_close(decoding.step(token), begin(model, ids, None, 6).step(token))


def test_rows_that_join_and_leave_step_as_the_rows_alone(model):
    ids, later = words(3, 4), words(2, 7, 1)
    running = begin(model, ids, LEFT, 3)
    singles = [alone(model, ids, row, LEFT) for row in range(3)]

    def step(seed):
        tokens = words(len(singles), 1, seed)[:, 0]
        got = running.step(tokens)
        assert_close(got, torch.cat([each.step(tokens[row : row + 1]) for row, each in enumerate(singles)]))

    step(0)
    running.join(begin(model, later, None, 0))
    singles += [alone(model, later, row) for row in range(2)]
    step(1)
    running.select(torch.tensor([4, 1, 2]))  # the last takes the place of the first
    singles = [singles[row] for row in (4, 1, 2)]
    step(2)
    running.make_room(6, 20, 9)
    running.join(begin(model, ids[:1], None, 0))
    singles.append(alone(model, ids, 0))
    step(3)
    running.select(torch.tensor([0]))
    singles = singles[:1]
    before = running.nbytes
    running.make_room(1, 12, 7, exactly=True)
    assert running.nbytes < before
    step(4)
    step(5)


def test_a_joined_t5_row_sees_its_own_source_only():
    model, _ = t5_pair(3)
    assert isinstance(model, T5LanguageModel)
    short, long = begin(model, words(1, 2), None, 4), begin(model, words(1, 9, 1), None, 4)
    short.join(long)
    token = words(1, 1)[0]
    assert_close(short.step(token.expand(2))[:1], begin(model, words(1, 2), None, 4).step(token))
    with pytest.raises(ValueError, match="before rows are selected or joined"):
        short.snapshot()


def test_dynamic_positions_of_a_row_do_not_depend_on_the_others():
    """Beyond the trained length the angles depend on how long a row is: on its own length, alone as in a batch."""
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    model = llama_pair(3, max_position_embeddings=16, rope_scaling=scaling)[0]
    rows = [words(1, length) for length in (40, 9, 23)]
    ids, mask = torch.zeros(3, 40, dtype=torch.long), torch.zeros(3, 40, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, 40 - row.shape[1] :], mask[number, 40 - row.shape[1] :] = row[0], 1
    together, alone = begin(model, ids, mask, 8), [begin(model, row, None, 8) for row in rows]
    joined = begin(model, rows[1], None, 8)
    joined.join(begin(model, rows[0], None, 8))
    for token in (3, 4, 5, 6):
        wanted = torch.cat([each.logits for each in alone])
        assert_close(together.logits, wanted)
        assert_close(joined.logits, wanted[[1, 0]])
        for each in (together, joined, *alone):
            each.step(torch.full((len(each.logits),), token))
    whole = embed(model, rows[0])
    assert_close(model.begin(whole, None, 0, chunk=7).logits, model.begin(whole, None, 0).logits)  # not in parts
    start = begin(model, rows[0][:, :10], None, 0).snapshot()
    with pytest.raises(ValueError, match="run the prompt as a whole"):
        model.begin(whole[:, 10:], None, 0, prefix=start)


def test_a_cache_that_begins_with_a_prefix_is_empty_behind_it():
    """What is not in use is zero, whatever memory held before: hidden columns weigh nothing, but they are read."""
    prefix = KVPrefix((torch.ones(1, 2, 5, 3),), (torch.ones(1, 2, 5, 3),))
    for _ in range(20):
        torch.full((2, 2, 9, 3), torch.nan)  # let go at once: memory that the next buffer may get
        cache = KVCache.from_prefix(prefix, 2, 9)
        for buffer in (cache.keys[0], cache.values[0]):
            assert buffer.shape == (2, 2, 9, 3)
            assert (buffer[:, :, :5] == 1).all() and (buffer[:, :, 5:] == 0).all()
