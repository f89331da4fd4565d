"""What is said about clips and stills: dialogues, single questions, descriptions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from onlooker.train.data.record import Medium, Record, Turn
from onlooker.train.world import Question, Scene, WorldRows, caption, dialogue, draw_scene, render, render_at, words_of
from onlooker.train.world.facts import COLORS, SHAPES
from onlooker.train.world.phrasings import PLURALS, VERBS
from recipes.language import STILL_KINDS
from recipes.numbered import Numbered
from recipes.tiny import SIZE, SPECIAL

#: words that say what a question is about
_NAMES = {*COLORS, *SHAPES, *PLURALS.values(), *words_of("thing things left right above below")}
_NAMES |= {word for forms in VERBS.values() for form in forms for word in words_of(form)}
#: words that a question is as clear without
_FILLERS = set(
    words_of("the a is it of me you can tell say look at do does see show we that there in to if name give have has")
)
_FILLERS |= set(words_of("what which true one ? . , :"))


def terse(text: str, rng: random.Random) -> str:
    """A question as it is, or for one in two without some of its words: of fillers a half, of hints at its kind a few.

    Who has heard only whole sentences takes them as wholes, and does not know them when they are put otherwise. Where a
    sentence holds two hints, such as "time" and "act", each has to do alone now and then.
    """
    if rng.random() < 0.5:
        return text
    kept = dict.fromkeys(_NAMES, 1.0) | dict.fromkeys(_FILLERS, 0.5)
    return " ".join(word for word in words_of(text) if rng.random() < kept.get(word, 0.75))


class Terse(WorldRows):
    """`WorldRows` of questions, some of them terse.

    Args:
        often: kinds that every other row keeps to.
    """

    def __init__(self, *arguments: Any, often: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.often = often

    def questions(self, scene: Scene) -> list[Question]:
        rng = random.Random(f"{scene.id} {self.phrasings} questions")
        kinds = self.often if self.often and scene.seed % 2 else self.kinds
        return dialogue(scene, rng, self.turns, phrasings=self.phrasings, kinds=kinds)

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        rng = random.Random(f"{scene.id} terse")
        return tuple(Turn(terse(turn.question, rng), turn.answer) for turn in super().words(scene))


class Conversations(Terse):
    """Dialogues; three in ten end with a description, and one in ten is nothing but that.

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


class Unseen(Conversations):
    """The same without pictures: a row is a scene and what is said about it."""

    def __getitem__(self, index: Any) -> Any:
        scene = self.scene(index)
        return scene, self.words(scene)


class Descriptions(WorldRows):
    """Nothing but descriptions, for a projector to learn on."""

    def words(self, scene: Scene) -> tuple[Turn, ...]:
        return (Turn(f"Describe the {'image' if scene.is_still else 'video'}.", caption(scene)),)


class Glimpses(Numbered):
    """Pictures with what is said about them: stills, and frames of clips, which show every color with every shape.

    A row is several records about one picture: its caption, then each question alone.

    Args:
        free: half of the captions in any order and with any opening, instead of the fixed one.
        turns: questions about each picture.
    """

    def __init__(self, count: int, first: int = 0, *, free: bool = False, turns: int = 0) -> None:
        super().__init__(count, first)
        self.free, self.turns = free, turns

    def row(self, seed: int) -> Any:
        rng = random.Random(f"{seed} glimpse")
        scene, picture = glimpse(seed, rng)
        is_free = self.free and rng.random() < 0.5
        turns = [Turn("", caption(scene, rng if is_free else None))]
        turns += [Turn(asked.text, asked.answer) for asked in dialogue(scene, rng, self.turns, kinds=STILL_KINDS)]
        return [Record(scene.id, (Medium("image", picture),), (turn,)) for turn in turns]


def glimpse(seed: int, rng: random.Random) -> tuple[Scene, np.ndarray]:
    """A still for one seed in four, or else a frame of a clip as a still of what can be seen in it."""
    scene = draw_scene(seed, "train", is_still=rng.random() < 0.25)
    while not scene.is_still:
        times = np.array([rng.random()])
        frames, owners = render_at(scene, times, SIZE, with_owners=True)
        shown = np.bincount(owners.ravel(), minlength=1 + len(scene.things))[1:] / owners.size
        things = tuple(thing for thing, share in zip(scene.things, shown) if share > 0.006)
        if things:
            return replace(scene, things=things, is_still=True), frames[0]
    return scene, render(scene, SIZE)[0]


class Asked(Terse):
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

    return lambda rows: tell_nothing(collate(rows))


def tell_nothing(batch: Any) -> Any:
    """Replace the instructions of a batch by empty ones."""
    nothing = torch.tensor([SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")])
    batch["qformer_input_ids"] = nothing.repeat(len(batch["input_ids"]), 1)
    batch["qformer_attention_mask"] = torch.ones_like(batch["qformer_input_ids"])
    return batch
