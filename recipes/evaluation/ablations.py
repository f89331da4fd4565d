"""What a stage, or an input, is worth: pairs of runs with the same budget of which one lacks it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import onlooker
from onlooker.train.world import Question, Scene, dialogue, draw_scene, render
from recipes import tiny
from recipes.conversations import tell_nothing
from recipes.evaluation.counting import Share
from recipes.evaluation.exam import MOST_TOKENS, SIZE
from recipes.evaluation.stills import score_captions, write_captions

_AT_ONCE = 64


def ablations(build: Path, n: int = 500) -> dict[str, Any]:
    """Captions of n unseen stills after BLIP-2's second stage, and answers about them through a single query.

    Args:
        build: the folder of all runs.

    Raises:
        FileNotFoundError: one of the runs has not been made.
    """
    scenes = [draw_scene(seed, "test", is_still=True) for seed in range(n)]
    captions = {
        run: _captions(build / run / "model", scenes) for run in ("blip2-frozen", "blip2-frozen-without-stage1")
    }
    answers = {
        run: _answers(build / run / "model", scenes, is_told=run.endswith("-aware"))
        for run in ("instructblip-aware", "instructblip-unaware")
    }
    return {"captions": captions, "answers": answers}


def _captions(folder: Path, scenes: Sequence[Scene]) -> Share:
    _expect(folder)
    model = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    with TemporaryDirectory() as words:
        texts = write_captions(model, tiny.blip2_processor("t5", Path(words)), scenes)
    return score_captions(scenes, texts)["all facts"]


def _answers(folder: Path, scenes: Sequence[Scene], *, is_told: bool) -> Share:
    _expect(folder)
    model = onlooker.InstructBlipVideoForConditionalGeneration.from_pretrained(folder).eval()
    tasks = [(scene, asked) for scene in scenes for asked in _questions(scene)]
    with TemporaryDirectory() as words:
        processor = tiny.instructblip_processor(Path(words), num_query_tokens=1)
        right: list[bool] = []
        for first in range(0, len(tasks), _AT_ONCE):
            some = tasks[first : first + _AT_ONCE]
            pictures = [render(scene, SIZE) for scene, _ in some]
            inputs = processor(
                images=pictures, text=[asked.text for _, asked in some], padding=True, return_tensors="pt"
            )
            inputs = inputs if is_told else tell_nothing(inputs)
            with torch.no_grad():
                ids = model.generate(**inputs, max_new_tokens=MOST_TOKENS)
            texts = processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            right += [text.strip() == asked.answer for (_, asked), text in zip(some, texts)]
    return Share.of(right)


def _questions(scene: Scene) -> list[Question]:
    return dialogue(scene, random.Random(f"{scene.id} ablation"), 2)


def _expect(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: make checkpoints RUNS={folder.parent.name}")
