"""Questions about clips that no training has seen, each about a clip of its own, so that answers are independent."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from onlooker import Onlooker
from onlooker.media import Frames
from onlooker.train.world import KINDS, Question, Scene, ablate, ask, draw_scene, kinds_for, render

SIZE, FRAMES = 56, 8  # what the small checkpoints see of a clip
MOST_TOKENS = 10  # of an answer; the longest has four words
_AT_ONCE = 128


@dataclass(frozen=True)
class Task:
    """A scene, and what is asked about it."""

    scene: Scene
    question: Question


def draw_exam(split: str, phrasings: str, per_kind: int, kinds: Sequence[str] = KINDS, first: int = 0) -> list[Task]:
    """So many questions of each kind, always the same ones.

    Kinds take turns in the seeds from `first` on; scenes that cannot be asked a kind are passed over.

    Args:
        split: of the scenes.
        phrasings: "train" or "held_out"; the facts that are asked for are the same.
    """
    tasks = []
    for place, kind in enumerate(kinds):
        found = 0
        for seed in count(first + place, len(kinds)):
            if found == per_kind:
                break
            scene = draw_scene(seed, split)
            assert kind in kinds_for(scene)
            question = ask(scene, kind, random.Random(f"{scene.id} {kind} exam"), phrasings)
            if question is not None:
                tasks.append(Task(scene, question))
                found += 1
    return tasks


def as_frames(scene: Scene, pixels: np.ndarray) -> Frames:
    """A rendered clip [F, h, w, 3] as `load_video` would give it: looked at as it is."""
    places = list(range(len(pixels)))
    seconds = [scene.seconds * place / max(1, len(places) - 1) for place in places]
    return Frames(pixels, places, seconds, None, scene.id)


def answer(eyes: Onlooker, tasks: Sequence[Task], without: str | None = None) -> list[str]:
    """What a model answers, each question by itself, as `Onlooker.ask` puts it.

    Args:
        without: what is taken away from the clips, one of `world.baselines.ABLATIONS`.
    """
    texts: list[str] = []
    for first in range(0, len(tasks), _AT_ONCE):
        some = tasks[first : first + _AT_ONCE]
        clips = []
        for task in some:
            pixels = render(task.scene, SIZE, FRAMES)
            if without is not None:
                pixels = ablate(pixels, without, np.random.default_rng([task.scene.seed, 17]))
            clips.append(as_frames(task.scene, pixels))
        found = eyes.ask(clips, [task.question.text for task in some], max_new_tokens=MOST_TOKENS)
        texts += [each.text for each in found]
    return texts


def marks(tasks: Sequence[Task], texts: Sequence[str]) -> list[bool]:
    """Which answers are right, word for word."""
    return [text == task.question.answer for task, text in zip(tasks, texts)]
