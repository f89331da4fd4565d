"""Beginnings of prompts: found as far as they agree, never beyond, and the longest there is."""

from __future__ import annotations

import pytest
import torch

from onlooker.reuse import Cache, Entry
from onlooker.reuse.prefixes import Prefixes, Sight, positions, until_sights

CLIP, OTHER = Sight("clip", 8), Sight("other", 4)


def entry(name: str) -> Entry:
    return Entry({"a": torch.zeros(4)}, {"name": name})


def named(found):
    return None if found is None else (found[0].facts["name"], found[1])


@pytest.fixture
def prefixes():
    return Prefixes(Cache(2**20))


def test_sights_count_as_many_positions_as_they_have_tokens():
    assert positions((1, CLIP, 2)) == 10 and until_sights((1, CLIP, 2, OTHER, 3)) == 4 and until_sights((1, 2)) == 0


def test_a_prompt_is_continued_as_far_as_the_items_agree(prefixes):
    prefixes.keep("m", (1, 2, CLIP, 3, 4), entry("a"))
    assert named(prefixes.find("m", (1, 2, CLIP, 3, 9, 9))) == ("a", 4)
    assert named(prefixes.find("m", (1, 2, CLIP, 3, 4, 5))) == ("a", 5)
    assert named(prefixes.find("m", (1, 2, CLIP, 3, 4))) == ("a", 4)  # the last one has to be run
    assert named(prefixes.find("m", (1, 2, CLIP, 7))) == ("a", 3)


def test_nothing_is_taken_from_another_model_medium_or_beginning(prefixes):
    prefixes.keep("m", (1, 2, CLIP, 3), entry("a"))
    assert prefixes.find("n", (1, 2, CLIP, 3, 4)) is None
    assert prefixes.find("m", (1, 2, OTHER, 3, 4)) is None
    assert prefixes.find("m", (1, 7, CLIP, 3, 4)) is None  # another system sentence
    assert prefixes.find("m", (1, 2, Sight("clip", 9), 3, 4)) is None
    assert prefixes.find("m", (1, 2, 3)) is None and prefixes.find("m", (1, CLIP)) is None
    prefixes.keep("m", (1, 2), entry("words"))
    assert prefixes.find("m", (1, 2, 3)) is None


def test_the_longest_agreement_wins_and_a_longer_row_takes_the_place_of_its_beginning(prefixes):
    prefixes.keep("m", (1, CLIP), entry("base"))
    prefixes.keep("m", (1, CLIP, 5, 6, 7), entry("chat"))
    prefixes.keep("m", (1, CLIP, 8, 9), entry("other chat"))
    assert named(prefixes.find("m", (1, CLIP, 5, 6, 1))) == ("chat", 4)
    assert named(prefixes.find("m", (1, CLIP, 8, 9, 1))) == ("other chat", 4)
    assert prefixes._cache.stats().entries == 2  # the base is in both
    assert prefixes.knows("m", (1, CLIP)) and not prefixes.knows("m", (1, CLIP, 7))


def test_several_media_agree_as_far_as_they_are_the_same(prefixes):
    prefixes.keep("m", (1, CLIP, 2, OTHER, 3), entry("a"))
    assert named(prefixes.find("m", (1, CLIP, 2, OTHER, 4, 5))) == ("a", 4)
    assert named(prefixes.find("m", (1, CLIP, 2, Sight("third", 4), 5))) == ("a", 3)


def test_what_memory_gave_up_is_not_found(prefixes):
    prefixes.keep("m", (1, CLIP, 2), entry("a"))
    prefixes._cache.clear()
    assert prefixes.find("m", (1, CLIP, 2, 3)) is None and not prefixes.knows("m", (1, CLIP))
    assert prefixes._cache.stats().misses == {"prefix": 1}


def test_the_folder_is_asked_for_what_ends_with_the_last_medium(tmp_path):
    first = Prefixes(Cache(0, tmp_path))
    first.keep("m", (1, CLIP), entry("a"), to_folder=True)
    first.keep("m", (1, CLIP, 2), entry("turn"))
    again = Prefixes(Cache(2**20, tmp_path))
    assert named(again.find("m", (1, CLIP, 2, 3))) == ("a", 2)
    assert named(again.find("m", (1, CLIP, OTHER, 3))) == ("a", 2)  # from memory now


def test_the_index_forgets_what_is_gone():
    prefixes = Prefixes(Cache(10 * entry("x").nbytes))
    for number in range(500):
        prefixes.keep("m", (1, Sight(str(number), 2)), entry(str(number)))
    assert len(prefixes._known) < 100
