"""What patches say in words: the facts of the scene, no sooner than they can be known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onlooker.train.world import draw_scene
from onlooker.train.world.facts import Scene, Thing
from onlooker.train.world.render import render_with_owners
from recipes import spoken
from recipes.tiny import FRAMES, PATCH, SIZE, words
from recipes.towers import shares_of_patches


def thing(motion: str, timing: str | None, begin: float, end: float, **other: object) -> Thing:
    place = {"x": 0.5, "y": 0.5, "radius": 0.14, "angle": 0.0, "travel": 0.3} | other
    return Thing("red", "star", motion, timing, begin, end, **place)  # type: ignore[arg-type]


def said_by(scene: Scene) -> list[set[str]]:
    """The words of all patches of each frame."""
    said, _ = spoken.say(scene, spoken.guess_shares(scene))
    return [{words()[n] for n in frame[1:].ravel() if n > 0} for frame in said]


def test_an_action_is_said_when_it_is_over_and_not_before() -> None:
    frames = said_by(Scene(0, "train", (thing("left", "middle", 0.34, 0.66),)))
    assert frames[0] == frames[2] == {"red", "star"}
    assert frames[-1] == {"red", "star", "left", "middle"}


def test_what_stays_still_is_said_in_the_last_frame_alone() -> None:
    frames = said_by(Scene(0, "train", (thing("still", None, 0.0, 1.0),)))
    assert all(frame == {"red", "star"} for frame in frames[:-1])
    assert frames[-1] == {"red", "star", "still"}


def test_patches_remember_what_has_vanished() -> None:
    frames = said_by(Scene(0, "train", (thing("vanish", "start", 0.2, 0.2),)))
    assert frames[-1] == {"red", "star", "vanishes", "start"}


def test_class_tokens_count_the_things_seen_so_far() -> None:
    late = thing("appear", "end", 0.8, 0.8, x=0.2, y=0.2)
    scene = Scene(0, "train", (late, thing("still", None, 0.0, 1.0, x=0.8, y=0.8)))
    said, places = spoken.say(scene, spoken.guess_shares(scene))
    assert [words()[n] for n in said[:, 0, 0]] == ["one"] * 6 + ["two"] * 2
    assert not said[:, 0, 1:].any() and not places[:, 0].any()


def test_guessed_shares_say_mostly_what_rendered_ones_do() -> None:
    same = total = 0
    for seed in range(12):
        scene = draw_scene(seed, "train")
        owners = render_with_owners(scene, SIZE, FRAMES)[1]
        rendered, _ = spoken.say(scene, shares_of_patches(owners, len(scene.things), PATCH))
        guessed, _ = spoken.say(scene, spoken.guess_shares(scene))
        both = (rendered[:, 1:, 0] > 0) & (guessed[:, 1:, 0] > 0)
        same += int((rendered[:, 1:, 0] == guessed[:, 1:, 0])[both].sum())
        total += int(both.sum())
        assert both.sum() > 0.5 * (rendered[:, 1:, 0] > 0).sum()
    assert (
        same / total > 0.85
    )  # things that overlap share patches otherwise; what is hidden is hidden in pictures alone


@pytest.mark.parametrize("word", ["star", "red", "when"])
def test_a_word_of_a_text_says_itself_alone(word: str) -> None:
    table = torch.randn(len(words()), 128)
    said = torch.tensor([[spoken.NUMBER_OF[word], 0, 0, 0]])
    assert torch.equal(spoken.embed(table, said, torch.zeros(1, 2))[0], table[spoken.NUMBER_OF[word]])


def test_a_patch_is_the_sum_of_its_known_words_and_its_place() -> None:
    table = torch.randn(len(words()), 128)
    said = torch.tensor([[5, 9, spoken.UNSURE, 0]])
    here, middle = (spoken.embed(table, said, torch.tensor([place])) for place in ((1.0, -1.0), (0.0, 0.0)))
    torch.testing.assert_close(middle[0], table[5] + table[9])
    there = spoken.embed(table, said, torch.tensor([[2.0, -2.0]]))
    torch.testing.assert_close(there - middle, 2 * (here - middle))
    assert not np.allclose(here, middle)
