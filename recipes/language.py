"""A language model learns the words of the world from text alone: stories in place of clips, and talk about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from onlooker.train.stages import LanguageStage
from onlooker.train.world import caption, dialogue, draw_scene
from onlooker.train.world.facts import Scene
from onlooker.train.world.phrasings import VERBS, WHEN
from recipes.numbered import Numbered

KINDS = ("color", "shape", "count", "direction", "action", "order", "when", "exists", "does")  # what a story tells
STILL_KINDS = ("color", "shape", "count", "exists")


class Stories(Numbered):
    """Scenes that nobody renders. A row is the clip of a seed of the train split.

    Args:
        stills: as if they were stills, of which the held-out combinations leave some colors without some shapes.
    """

    def __init__(self, count: int, first: int = 0, *, stills: bool = False) -> None:
        super().__init__(count, first)
        self.stills = stills

    def row(self, seed: int) -> Any:
        scene = draw_scene(seed, "train")
        return replace(scene, is_still=True) if self.stills else scene


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
    """Stories with a dialogue behind them, as rows of a decoder-only model; the answers alone are learnt.

    To learn the questions too would drown the answers: a row has one word of an answer in twelve, and the loss of the
    others, which nobody can foresee, is most of the whole.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, scenes: Sequence[Scene]) -> dict[str, Tensor]:
        rows = [self._row(scene) for scene in scenes]
        ids, labels = (pad_sequence(column, batch_first=True) for column in zip(*rows))
        mask = pad_sequence([torch.ones_like(row) for row, _ in rows], batch_first=True)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)}

    def _row(self, scene: Scene) -> tuple[Tensor, Tensor]:
        rng = random.Random(f"{scene.id} talk")
        begin = story(scene, rng) + " "
        ids = [self.tokenizer.bos_token_id]
        labels = [-100]
        for question in dialogue(scene, rng, 8, kinds=KINDS):
            prompt = self._ids(f"user: {begin}{question.text} assistant:")
            answer = [*self._ids(question.answer), self.tokenizer.eos_token_id]
            ids += prompt + answer
            labels += [-100] * len(prompt) + answer
            begin = ""
        return torch.tensor(ids), torch.tensor(labels)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


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
