"""The world as a data set: rows with pixels and words, each a function of its number, ready for a collator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from onlooker.train.data.record import Medium, Record, Turn
from onlooker.train.world.captions import caption
from onlooker.train.world.facts import Scene
from onlooker.train.world.questions import Question, dialogue
from onlooker.train.world.render import render
from onlooker.train.world.scenes import draw_scene

TASKS = ("dialogue", "question", "caption")


class WorldRows(Sequence[Record]):
    """Scenes of one split with what is asked or said about them, rendered when a row is taken.

    Args:
        count: rows; row i is the scene of seed `first + i`, so data sets that do not overlap are easily had.
        task: "dialogue" (several questions as turns), "question" (one) or "caption".
        still_share: part of the rows that are stills instead of clips.
        kinds: of questions; all when not given.
        phrasings: "train", "held_out" or "all".
        free_captions: in any order and with any opening instead of the fixed one.

    Raises:
        ValueError: an unknown task or split.
    """

    def __init__(
        self,
        split: str,
        count: int,
        *,
        task: str = "dialogue",
        size: int = 56,
        num_frames: int = 8,
        turns: int = 8,
        still_share: float = 0.0,
        kinds: Sequence[str] | None = None,
        phrasings: str = "train",
        free_captions: bool = False,
        first: int = 0,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"task {task!r} is unknown; there are {', '.join(TASKS)}")
        draw_scene(first, split)
        self.split, self._rows, self.task, self.size, self.num_frames = split, count, task, size, num_frames
        self.turns, self.still_share, self.kinds = 1 if task == "question" else turns, still_share, kinds
        self.phrasings, self.free_captions, self.first = phrasings, free_captions, first

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._rows))]
        scene = self.scene(index)
        frames = render(scene, self.size, self.num_frames)
        medium = Medium("image", frames[0]) if scene.is_still else Medium("video", frames)
        return Record(scene.id, (medium,), self.words(scene))

    def scene(self, index: int) -> Scene:
        """The facts of a row.

        Raises:
            IndexError: there is no such row.
        """
        index = index + self._rows if index < 0 else index
        if not 0 <= index < self._rows:
            raise IndexError(f"row {index} of {self._rows}")
        seed = self.first + index
        is_still = random.Random(f"{self.split} {seed} kind").random() < self.still_share
        return draw_scene(seed, self.split, is_still=is_still)

    def questions(self, scene: Scene) -> list[Question]:
        """The questions that are asked about a scene, with their kinds."""
        rng = random.Random(f"{scene.id} {self.phrasings} questions")
        return dialogue(scene, rng, self.turns, phrasings=self.phrasings, kinds=self.kinds)

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        """What is said about a scene."""
        if self.task == "caption":
            rng = random.Random(f"{scene.id} caption") if self.free_captions else None
            return (Turn("", caption(scene, rng)),)
        return tuple(Turn(question.text, question.answer) for question in self.questions(scene))
