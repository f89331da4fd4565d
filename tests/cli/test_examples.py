"""The clips and stills of `examples/`: what their truth says is true, and they show what they are said to show."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

import examples
from onlooker import load_image, load_video
from onlooker.train.world import ask, caption, draw_scene, kinds_for, render, stated_facts

EXAMPLES = Path(examples.__file__).parent
ROWS = json.loads((EXAMPLES / "shapes.json").read_text(encoding="utf-8"))


def scene_of(row):
    return draw_scene(row["seed"], row["split"], is_still=row["file"].endswith(".png"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_the_truth_beside_the_examples_is_what_the_world_says(row):
    scene, rng = scene_of(row), random.Random(0)
    assert row["split"] == "test" and row["caption"] == caption(scene)
    kinds = kinds_for(scene)
    known = {found.text: found.answer for kind in kinds for _ in range(500) if (found := ask(scene, kind, rng, "all"))}
    assert row["questions"] and {text: known.get(text) for text in row["questions"]} == row["questions"]
    assert all(len(stated_facts(row["caption"]) - stated_facts(wrong)) == 1 for wrong in row.get("wrong", ()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_the_files_show_the_scenes_that_they_are_said_to_show(row):
    scene, path = scene_of(row), EXAMPLES / row["file"]
    shown = load_image(path)[None] if scene.is_still else load_video(path, sampling="all").pixels
    rendered = render(scene, 224, len(shown))
    assert shown.shape == rendered.shape and path.stat().st_size < 350_000
    if scene.is_still:
        assert np.array_equal(shown, rendered)
    else:
        small = [frames.reshape(len(frames), 28, 8, 28, 8, 3).mean((2, 4)) for frames in (shown, rendered)]
        assert len(shown) == 32 and np.abs(small[0] - small[1]).mean() < 3  # in steps of 255: the encoder's loss
