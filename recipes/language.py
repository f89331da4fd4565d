"""A language model learns the words of the world from text alone: stories in place of clips, and talk about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.train.stages import LanguageStage
from onlooker.train.world import caption, dialogue, draw_scene
from onlooker.train.world.facts import Scene
from onlooker.train.world.phrasings import VERBS, WHEN

KINDS = ("color", "shape", "count", "direction", "action", "order", "when", "exists", "does")  # what a story tells
STILL_KINDS = ("color", "shape", "count", "exists")


class Stories(Sequence[Scene]):
    """Scenes that nobody renders. Row i is the clip, or the still, of seed `first + i` of the train split."""

    def __init__(self, count: int, first: int = 0, *, stills: bool = False) -> None:
        self.count, self.first, self.stills = count, first, stills

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return draw_scene(self.first + index, "train", is_still=self.stills)


def story(scene: Scene, rng: random.Random) -> str:
    """All that happens, in words and in any order."""
    things = list(scene.things)
    rng.shuffle(things)
    clauses = []
    for thing in things:
        when = "" if thing.timing is None else f" {WHEN[thing.timing]}"
        clauses.append(f"{thing.name}" + ("" if scene.is_still else f" {VERBS[thing.motion][0]}{when}"))
    return " and ".join(clauses)


class Talk:
    """Stories with a dialogue behind them, as rows of a decoder-only model: every word is learnt."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, scenes: Sequence[Scene]) -> dict[str, Tensor]:
        texts = []
        for scene in scenes:
            rng = random.Random(f"{scene.id} talk")
            turns = [f"user: {q.text} assistant: {q.answer} </s>" for q in dialogue(scene, rng, 8, kinds=KINDS)]
            texts.append(f"user: {story(scene, rng)} " + " ".join(turns).removeprefix("user: "))
        batch = self.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


class Retelling:
    """Stories for an encoder-decoder: it tells them in order, or answers a question about them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, scenes: Sequence[Scene]) -> dict[str, Tensor]:
        prompts, targets = [], []
        for scene in scenes:
            rng = random.Random(f"{scene.id} talk")
            prompts.append(story(scene, rng))
            targets.append(caption(scene))
            for question in dialogue(scene, rng, 3, kinds=STILL_KINDS):
                prompts.append(f"{story(scene, rng)} question: {question.text} answer:")
                targets.append(question.answer)
        batch = self.tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
        wanted = self.tokenizer(targets, padding=True, padding_side="right", return_tensors="pt")
        labels = wanted["input_ids"].masked_fill(wanted["attention_mask"] == 0, -100)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


class Text(LanguageStage):
    """Cross-entropy of text alone."""

    name = "text"
    trains = (".*",)


def seeded(make: Any, config: Any, seed: int) -> Any:
    """A model with fresh weights from a seed."""
    torch.manual_seed(seed)
    return make(config)
