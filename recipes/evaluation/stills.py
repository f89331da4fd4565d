"""Stills: captions word for word and fact for fact, and finding the one caption, or the one still, among many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onlooker import Onlooker
from onlooker.train.world import Scene, caption, draw_scene, facts_of, render, stated_facts
from recipes.evaluation.counting import Share
from recipes.evaluation.exam import SIZE

_MOST_TOKENS = 32  # of a caption; four things take fifteen words
_AT_ONCE = 64


def captioning(eyes: Onlooker, n: int = 500) -> dict[str, Any]:
    """Captions that are exact, and those with all the facts and no others, whatever their order.

    "without a prompt" is generate() given the pixels alone, as the documents of transformers write it.
    """
    unseen = [draw_scene(seed, "test", is_still=True) for seed in range(n)]
    combos = [draw_scene(seed, "combos", is_still=True) for seed in range(n)]
    return {
        "unseen stills": score_captions(unseen, _ask(eyes, unseen, SIZE)),
        "held-out combinations": score_captions(combos, _ask(eyes, combos, SIZE)),
        "unseen stills of 224 pixels": score_captions(unseen, _ask(eyes, unseen, 224)),
        "unseen stills without a prompt": score_captions(unseen, write_captions(eyes.model, eyes.processor, unseen)),
    }


def _ask(eyes: Onlooker, scenes: Sequence[Scene], size: int) -> list[str]:
    answers = eyes.caption([render(scene, size)[0] for scene in scenes], max_new_tokens=_MOST_TOKENS)
    return [each.text for each in answers]


def write_captions(model: Any, processor: Any, scenes: Sequence[Scene]) -> list[str]:
    """What a model says of stills without a prompt."""
    texts: list[str] = []
    for first in range(0, len(scenes), _AT_ONCE):
        pictures = [render(scene, SIZE)[0] for scene in scenes[first : first + _AT_ONCE]]
        inputs = processor(images=pictures, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=_MOST_TOKENS)
        texts += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
    return texts


def score_captions(scenes: Sequence[Scene], texts: Sequence[str]) -> dict[str, Share]:
    """How many captions are word for word as wanted, and how many tell all the facts and no others."""
    both = list(zip(scenes, texts))
    return {
        "exact": Share.of(text == caption(scene) for scene, text in both),
        "all facts": Share.of(stated_facts(text) == facts_of(scene) for scene, text in both),
    }


def retrieval(eyes: Onlooker, n: int = 256, shortlist: int = 16) -> dict[str, Any]:
    """Recall at 1 among n stills with n different captions, in both directions.

    The contrastive similarity (ITC) ranks all pairs; the matching head (ITM) judges the best of them again. Its
    probability is added to the similarity, as the paper's code adds its score.

    Args:
        shortlist: so many of each ranking are judged again.
    """
    scenes = different_stills(n)
    pictures, captions = [render(scene, SIZE)[0] for scene in scenes], [caption(scene) for scene in scenes]
    similarity = compare(eyes, pictures, captions)
    listed = torch.zeros(n, n, dtype=torch.bool)
    for axis in (0, 1):  # of each caption the best stills, and of each still the best captions
        listed.scatter_(axis, similarity.topk(min(shortlist, n), axis).indices, True)
    judged = similarity.new_full((n, n), -1.0)
    for place, picture in enumerate(pictures):
        chosen = listed[place].nonzero()[:, 0].tolist()
        matches = eyes.match(picture, [captions[number] for number in chosen])
        judged[place, chosen] = similarity[place, chosen] + torch.tensor([match.probability for match in matches])
    ways = {"caption of a still": 1, "still of a caption": 0}
    return {
        way: {"ITC": _first(similarity, axis), f"ITM of the best {shortlist}": _first(judged, axis)}
        for way, axis in ways.items()
    }


def different_stills(n: int, split: str = "test") -> list[Scene]:
    """The first n stills of which no two have the same caption."""
    found: dict[str, Scene] = {}
    for seed in count():
        scene = draw_scene(seed, split, is_still=True)
        found.setdefault(caption(scene), scene)
        if len(found) == n:
            break
    return list(found.values())


@torch.no_grad()
def compare(eyes: Onlooker, pictures: Sequence[np.ndarray], texts: Sequence[str]) -> Tensor:
    """The similarity of every picture with every text, [pictures, texts]."""
    words = eyes.processor(text=list(texts), padding=True, return_tensors="pt")
    rows = []
    for first in range(0, len(pictures), _AT_ONCE):
        pixels = eyes.processor(images=list(pictures[first : first + _AT_ONCE]), return_tensors="pt")
        found = eyes.model(pixels["pixel_values"], words["input_ids"], words["attention_mask"], return_dict=True)
        rows.append(found.logits_per_image.float())
    return torch.cat(rows)


def _first(scores: Tensor, axis: int) -> Share:
    """How often the pair that belongs together has the highest score along an axis."""
    best = scores.argmax(axis)
    return Share.of((best == torch.arange(len(best))).tolist())
