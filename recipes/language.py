"""The language models learn the words of the world before there are pictures.

T5 is told stories. The decoder hears clips as `spoken` puts them, patch by patch, and talks about them: it learns to
look up in patches what a question asks for, at a small part of the price of pictures.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from onlooker.train.data.record import Turn
from onlooker.train.stages import LanguageStage, Stage
from onlooker.train.world import caption, dialogue, draw_scene
from onlooker.train.world.facts import Scene
from recipes import spoken
from recipes.numbered import Numbered

STILL_KINDS = ("color", "shape", "count", "exists")
_BACKGROUND = 0.15  # of the patches that show nothing are kept: they say nothing, and cost as much as the others


class Stories(Numbered):
    """Scenes that nobody renders, as if they were stills: the real ones leave some colors without some shapes.

    A row is the clip of a seed of the train split.
    """

    def row(self, seed: int) -> Any:
        return replace(draw_scene(seed, "train"), is_still=True)


class Retelling:
    """Stories for an encoder-decoder: it tells them in order, or answers a question about them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, scenes: Sequence[Scene]) -> dict[str, Tensor]:
        prompts, targets = [], []
        for scene in scenes:
            rng = random.Random(f"{scene.id} talk")
            prompts.append(_story(scene, rng))
            targets.append(caption(scene))
            for question in dialogue(scene, rng, 3, kinds=STILL_KINDS):
                prompts.append(f"{_story(scene, rng)} question: {question.text} answer:")
                targets.append(question.answer)
        batch = self.tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
        wanted = self.tokenizer(targets, padding=True, padding_side="right", return_tensors="pt")
        labels = wanted["input_ids"].masked_fill(wanted["attention_mask"] == 0, -100)
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _story(scene: Scene, rng: random.Random) -> str:
    """All that is there, in words and in any order."""
    things = list(scene.things)
    rng.shuffle(things)
    return " and ".join(thing.name for thing in things)


class Text(LanguageStage):
    """Cross-entropy of text alone."""

    name = "text"
    trains = (".*",)


def talk(tokenizer: Any, turns: Sequence[Turn]) -> tuple[Tensor, Tensor]:
    """A dialogue behind its visual tokens: ids, and the labels of its answers, which alone are learnt.

    To learn the questions too would drown the answers: a row has one word of an answer in twelve, and the loss of the
    others, which nobody can foresee, is most of the whole.
    """
    ids: list[int] = []
    labels: list[int] = []
    for number, turn in enumerate(turns):
        role = "user: " if number else ""
        prompt = tokenizer(f"{role}{turn.question} assistant:", add_special_tokens=False)["input_ids"]
        answer = [*tokenizer(turn.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        ids += prompt + answer
        labels += [-100] * len(prompt) + answer
    return torch.tensor(ids), torch.tensor(labels)


class Hearing:
    """Scenes with their dialogues as rows of tokens that say up to four words each: "user:", patches, dialogue."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.begin = torch.tensor(tokenizer("user:")["input_ids"])

    def __call__(self, rows: Sequence[tuple[Scene, Sequence[Turn]]]) -> dict[str, Tensor]:
        columns = zip(*(self._row(*row) for row in rows))
        said, places, positions, labels = (pad_sequence(list(column), batch_first=True) for column in columns)
        return {
            "said": said,
            "places": places,
            "position_ids": positions,
            "labels": labels.masked_fill(labels == 0, -100),
        }

    def _row(self, scene: Scene, turns: Sequence[Turn]) -> tuple[Tensor, ...]:
        """Words [T, 4], places [T, 2], positions [T] and labels [T]; positions are those with all patches."""
        said, places = spoken.say(scene, spoken.guess_shares(scene))
        said, places = (
            x[:, int(scene.is_still) :].reshape(-1, x.shape[-1]) for x in (said, places)
        )  # stills: no class
        rng = np.random.default_rng([scene.seed, 17])
        kept = np.flatnonzero((said > 0).any(-1) | (rng.random(len(said)) < _BACKGROUND))
        first, (ids, labels) = len(self.begin), talk(self.tokenizer, turns)
        behind = first + len(said)
        return (
            torch.cat([as_said(self.begin), torch.from_numpy(said[kept]), as_said(ids)]),
            torch.cat([torch.zeros(first, 2), torch.from_numpy(places[kept]), torch.zeros(len(ids), 2)]),
            torch.cat([torch.arange(first), torch.from_numpy(first + kept), behind + torch.arange(len(ids))]),
            torch.cat([torch.full((first + len(kept),), -100), labels]),
        )


def as_said(ids: Tensor) -> Tensor:
    """Words of a text [..., T] as tokens that say one word each [..., T, 4]."""
    return nn.functional.pad(ids[..., None], (0, len(spoken.CHANNELS) - 1))


class Listening(Stage):
    """Cross-entropy of what is answered to questions about clips in spoken patches."""

    name = "listening"
    trains = (".*",)

    def forward(self, said: Tensor, places: Tensor, position_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        heard = spoken.embed(self.model.get_input_embeddings().weight, said, places)
        loss = self.model(inputs_embeds=heard, position_ids=position_ids, labels=labels, return_dict=True).loss
        return {"loss": loss, "lm": loss.detach()}


@torch.no_grad()
def prepare_lookups(model: Any) -> None:
    """First values with which every token looks for tokens that say the same, and takes over what else they say.

    Queries and keys begin equal, values and outputs as each other's inverse, and what is taken over can be answered at
    once (after Trockman and Kolter, "Mimetic initialization of self-attention layers", arXiv:2305.09828).
    """
    table = model.get_input_embeddings().weight
    table.normal_(std=0.25)
    model.lm_head.weight.copy_(0.4 * table)
    for layer in model.model.layers:
        attention = layer.self_attn
        alike, taken = (torch.linalg.qr(torch.randn_like(attention.q_proj.weight)).Q for _ in range(2))
        first = {"q_proj": alike, "k_proj": alike, "v_proj": taken, "o_proj": 0.25 * taken.T}
        for name, weight in first.items():
            getattr(attention, name).weight.copy_(weight + 0.02 * torch.randn_like(weight))
