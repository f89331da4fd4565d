"""Words that a vocabulary lacks are named, once, where a tokenizer has a token for them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from onlooker import Onlooker

PICTURE = np.zeros((56, 56, 3), np.uint8)


def embedded(name: str) -> Onlooker:
    return Onlooker.from_pretrained(f"onlooker/{name}", dtype="fp32", device="cpu")


@pytest.mark.parametrize("name", ["video-llava-tiny", "instructblipvideo-tiny", "blip2-tiny"])
def test_words_outside_the_vocabulary_are_named_once_in_one_line(name):
    eyes = embedded(name)
    eyes.ask(PICTURE, "What colour is the circle?", max_new_tokens=1)  # warnings are errors here
    with pytest.warns(UserWarning, match="does not know velocity, unicorn: it reads <unk>") as said:
        eyes.ask(PICTURE, "What is the velocity of the 'unicorn'?", max_new_tokens=1)
    assert len(said) == 1 and "\n" not in str(said[0].message)
    eyes.ask(PICTURE, "Is the elephant here?", max_new_tokens=1)


def test_a_text_to_match_is_looked_at_too():
    with pytest.warns(UserWarning, match="does not know unicorn"):
        embedded("blip2-itm-tiny").match(PICTURE, "a unicorn")


def test_tokenizers_that_spell_every_word_say_nothing(load):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("opt").ask(PICTURE, "xylophonic?", max_new_tokens=1)
