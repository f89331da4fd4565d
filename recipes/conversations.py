"""What is said about clips and stills: dialogues, single questions, descriptions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from onlooker.train.data.record import Record, Turn
from onlooker.train.world import Scene, WorldRows, caption
from recipes.tiny import SPECIAL


class Conversations(WorldRows):
    """`WorldRows` of dialogues; three in ten end with a description, and one in ten is nothing but that.

    A description in front would tell the answers to what follows.
    """

    def __init__(self, *arguments: Any, request: str = "Describe the {}.", **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.request = request

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        draw = random.Random(f"{scene.id} description").random()
        request = self.request.format("image" if scene.is_still else "video")
        told = (Turn(request, caption(scene)),) if draw < 0.4 else ()
        return told if draw < 0.1 else (*super().words(scene), *told)


class Descriptions(WorldRows):
    """Nothing but descriptions, for a projector to learn on."""

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        return (Turn(f"Describe the {'image' if scene.is_still else 'video'}.", caption(scene)),)


def clips(count: int, first: int = 0, **options: Any) -> Conversations:
    """Conversations about clips, and about stills for a sixth of the rows."""
    return Conversations("train", count, still_share=1 / 6, first=first, **options)


class Captions(WorldRows):
    """Stills with their caption in the fixed order for half of them, in any order and with any opening for the rest."""

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        rng = random.Random(f"{scene.id} caption")
        return (Turn("", caption(scene, None if rng.random() < 0.5 else rng)),)


class Asked(WorldRows):
    """A row is several records about one medium: each question alone, and one that asks for a caption.

    Args:
        request: for the caption, with {} for the kind of medium; an empty one makes a record that is a caption.
    """

    def __init__(self, *arguments: Any, request: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.request = request

    def __getitem__(self, index: Any) -> Any:
        record = super().__getitem__(index)
        return [Record(record.id, record.media, (turn,)) for turn in record.turns]

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        request = self.request.format("image" if scene.is_still else "video")
        return (*super().words(scene), Turn(request, caption(scene)))


def each(collate: Callable[[Sequence[Record]], Any]) -> Callable[[Sequence[list[Record]]], Any]:
    """A collator of rows that are several records."""
    return lambda rows: collate([record for row in rows for record in row])


def general(collate: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    """A collator of InstructBLIP whose Q-Former is told nothing: it has to keep whatever may be asked for."""

    def collated(rows: Sequence[Any]) -> Any:
        batch = collate(rows)
        nothing = torch.tensor([SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")])
        batch["qformer_input_ids"] = nothing.repeat(len(batch["input_ids"]), 1)
        batch["qformer_attention_mask"] = torch.ones_like(batch["qformer_input_ids"])
        return batch

    return collated
