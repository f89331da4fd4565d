"""A stream of ids becomes pieces of text that join up to the decoded whole."""

from __future__ import annotations

import itertools
import random

import pytest

from onlooker.text import StreamDecoder, Tokenizer
from tests.text.trained import PROBES, SAVED, TEXTS


@pytest.fixture(scope="session", params=SAVED)
def tokenizer(request, tmp_path_factory):
    return Tokenizer.from_pretrained(SAVED[request.param](tmp_path_factory.mktemp(f"stream_{request.param}")))


def pieces(decoder: StreamDecoder, ids: list[int]) -> list[str]:
    return [*(decoder.put(number) for number in ids), decoder.end()]


def test_pieces_join_up_to_the_whole(tokenizer):
    for text, skip, clean in itertools.product(PROBES, (True, False), (True, False)):
        ids = tokenizer.encode(text)
        decoder = StreamDecoder(tokenizer, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
        expected = tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
        assert "".join(pieces(decoder, ids)) == expected, text
        assert "".join(pieces(decoder, ids)) == expected, "a decoder begins anew after end()"


def test_any_ids_in_any_order_join_up_to_the_whole(tokenizer):
    choose = random.Random(0)
    for trial in range(300):
        ids = [choose.randrange(len(tokenizer)) for _ in range(choose.randrange(1, 30))]
        for skip, clean in itertools.product((True, False), repeat=2):
            decoder = StreamDecoder(tokenizer, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
            expected = tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=clean)
            assert "".join(pieces(decoder, ids)) == expected, (trial, ids)


def test_several_ids_at_once_give_the_same_text(tokenizer):
    ids = tokenizer.encode(TEXTS[3])
    decoder = StreamDecoder(tokenizer)
    assert decoder.put([]) == ""
    text = decoder.put(ids[:3]) + decoder.put(iter(ids[3:])) + decoder.end()
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["opt", "llama"])
def test_no_piece_holds_half_a_character(tmp_path, kind):
    tokenizer = Tokenizer.from_pretrained(SAVED[kind](tmp_path))
    text = "🙂 한국어 ∑ 🙃🙃 done"
    ids = tokenizer.encode(text, add_special_tokens=False)
    given = pieces(StreamDecoder(tokenizer), ids)
    assert len(ids) > len(text) and not any("\ufffd" in piece for piece in given)
    assert "".join(given) == text


def test_words_come_as_soon_as_they_are_certain(tmp_path):
    tokenizer = Tokenizer.from_pretrained(SAVED["opt"](tmp_path))
    decoder = StreamDecoder(tokenizer)
    ids = tokenizer.encode("a photo of a cat", add_special_tokens=False)
    assert [decoder.put(number) for number in ids] == [tokenizer.decode(number) for number in ids]
    assert decoder.end() == ""
