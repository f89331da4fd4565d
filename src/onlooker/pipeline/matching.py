"""How well texts fit an image: the matching head for each pair, and similarity for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.records import Match, softmax


@torch.no_grad()
def match_texts(
    model: Any, writer: PromptWriter, image: Encoded, texts: Sequence[str], *, batch_size: int
) -> list[Match]:
    """One `Match` for each text, in the order given.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("give at least one text to match with the image")
    pairs: list[tuple[float, float]] = []
    for first in range(0, len(texts), batch_size):
        pairs += _scores(model, writer, image, texts[first : first + batch_size])
    similarities = [similarity for _, similarity in pairs]
    shares = softmax(similarities) if len(texts) > 1 else [None]
    return [Match(text, *pair, share) for text, pair, share in zip(texts, pairs, shares)]


@torch.no_grad()
def similarities(
    model: Any, writer: PromptWriter, images: Sequence[Encoded], text: str, *, batch_size: int
) -> list[float]:
    """The similarity of each image with one text: `Match.similarity`, without the matching head."""
    found: list[float] = []
    for first in range(0, len(images), batch_size):
        features = torch.stack([image.features for image in images[first : first + batch_size]])  # [N, 1+P, D]
        ids, mask = _right_padded(_written(writer, [text]), features.device)
        found += model.contrast(features, ids, mask, return_dict=True).logits_per_image[:, 0].float().tolist()
    return found


def _scores(model: Any, writer: PromptWriter, image: Encoded, texts: Sequence[str]) -> list[tuple[float, float]]:
    """Matching probability and similarity of each text."""
    features = image.features[None]  # [1, 1+P, D]
    ids, mask = _right_padded(_written(writer, texts), features.device)
    matched = model.match(features.expand(len(texts), -1, -1), ids, mask, return_dict=True).logits_per_image  # [B, 2]
    compared = model.contrast(features, ids, mask, return_dict=True).logits_per_image  # [1, B]
    return list(zip(matched.float().softmax(-1)[:, 1].tolist(), compared[0].float().tolist()))


def _written(writer: PromptWriter, texts: Sequence[str]) -> list[list[int]]:
    rows = [writer.text_ids(text) for text in texts]
    for text, ids in zip(texts, rows):
        writer.check_words(text, ids)
    return rows


def _right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as ids [B, T] and mask [B, T]: the first token is the one that is compared."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask
