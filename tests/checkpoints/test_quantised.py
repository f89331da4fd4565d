"""The checkpoints in 8 and 4 bits: what `onlooker quantize` writes answers as well as before, to one point."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest

from onlooker import Onlooker
from onlooker.checkpoints import FOLDER
from onlooker.cli import main
from onlooker.train.world import caption, draw_scene, facts_of, render, stated_facts
from recipes.evaluate import ANSWERERS, CAPTIONER
from recipes.evaluation.exam import SIZE, answer, draw_exam, marks

POINT = 0.01
PER_KIND = 20
STILLS = 120


@pytest.fixture(scope="module", params=["int8", "int4"])
def quantised(request, tmp_path_factory):
    """Name -> the checkpoint, rounded by the command and loaded from what it wrote."""
    folder = tmp_path_factory.mktemp(request.param)

    def load(name: str) -> Onlooker:
        assert main(["quantize", str(FOLDER / name), str(folder / name), f"--{request.param}", "--quiet"]) == 0
        return Onlooker.from_pretrained(folder / name, dtype="fp32", device="cpu", batch_size=64)

    return load


def is_within_a_point(before: Sequence[bool], after: Sequence[bool]) -> bool:
    """Whether a loss of one point explains the sample: what a rounding turns to right and to wrong is a coin's toss,
    and 99 of 100 samples of a model that is exactly one point worse pass."""
    lost = sum(one and not two for one, two in zip(before, after, strict=True))
    won = sum(two and not one for one, two in zip(before, after, strict=True))
    return lost - won <= POINT * len(before) + 2.33 * (lost + won) ** 0.5


def right_answers(eyes: Onlooker) -> list[bool]:
    tasks = draw_exam("test", "train", PER_KIND)
    return marks(tasks, answer(eyes, tasks))


def right_captions(eyes: Onlooker) -> list[bool]:
    scenes = [draw_scene(seed, "test", is_still=True) for seed in range(STILLS)]
    said = eyes.caption([render(scene, SIZE)[0] for scene in scenes], max_new_tokens=32)
    texts = [each.text for each in said]
    return [text == caption(scene) or stated_facts(text) == facts_of(scene) for text, scene in zip(texts, scenes)]


@pytest.fixture(scope="module")
def before(load):
    """What the checkpoint of a name gets right as it is: asked once, compared with each rounding."""
    return cache(lambda right, name: right(load(name)))


@pytest.mark.parametrize(
    ("right", "name"), [*((right_answers, name) for name in ANSWERERS), (right_captions, CAPTIONER)]
)
def test_answers_and_captions_are_as_right_as_before(before, quantised, right, name):
    whole, rounded = before(right, name), right(quantised(name))
    assert is_within_a_point(whole, rounded), (sum(whole), sum(rounded))


def test_a_model_that_forgot_a_twentieth_is_found_out():
    before = [True] * 160 + [False] * 40
    assert is_within_a_point(before, before)
    assert is_within_a_point(before, [False] * 2 + before[2:])
    assert not is_within_a_point(before, [False] * 10 + before[10:])
