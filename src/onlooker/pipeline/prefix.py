"""Media and prompts as one batch that a language model can go on from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.bridge.scatter import prepend, scatter_in_order
from onlooker.language.choose import begin
from onlooker.language.protocol import Decoding
from onlooker.models.generation import Prompt as ModelPrompt
from onlooker.pipeline.encoded import Row
from onlooker.pipeline.prompts import PromptWriter


class Prefix(ModelPrompt):
    """Prompts, padded on the left, with the visual tokens of their media in place.

    Embeddings are written when they are asked for: of a prompt that goes on from a known beginning only the end is.
    """

    def __init__(self, model: Any, writer: PromptWriter, rows: Sequence[Row]) -> None:
        self._embed = model.get_input_embeddings()
        self._writer, self._rows = writer, rows
        self._device = self._embed.weight.device
        self._written = [writer.ids(row.text, row.media) for row in rows]
        self._features = [each.to(self._device) for each in writer.family.visual_tokens(model, rows)]
        self.ids, self.ids_mask = left_padded(self._written, self._device)
        self.decoder_ids, self.begin = None, None
        media = [seen for row in rows for seen in row.media]
        self._places = [writer.family.placeholders[seen.kind] for seen in media]
        self._whole: Tensor | None = None
        self.mask = self.ids_mask
        if None in self._places:  # an old file: no token keeps a place, the features go in front
            self._whole, self.mask = self._write()

    @property
    def embeds(self) -> Tensor:  # type: ignore[override]
        """[B, T, D].

        Raises:
            ValueError: media and their places differ in number.
        """
        if self._whole is None:
            self._whole, _ = self._write()
        return self._whole

    def end(self, row: int, start: int) -> Tensor:
        """What stands from a position on in a row [T - start, D]; the position is none inside a medium."""
        if self._whole is not None or start == 0:
            length = int(self.mask[row].sum())
            return self.embeds[row, self.mask.shape[1] - length + start :]
        known, ids = self._written[row][:start], torch.tensor(self._written[row][start:], device=self._device)
        embeds = self._embed(ids)
        before = sum(len(each.media) for each in self._rows[:row])
        own = slice(before, before + len(self._rows[row].media))
        for token in dict.fromkeys(self._places[own]):
            assert token is not None  # else all of it was written at once
            features = [each for each, place in zip(self._features[own], self._places[own]) if place == token]
            unseen = torch.cat(features)[known.count(token) :]
            embeds = embeds.masked_scatter(torch.eq(ids, token)[:, None], unseen.to(embeds.dtype))
        return embeds

    def _write(self) -> tuple[Tensor, Tensor]:
        assert self.ids is not None and self.ids_mask is not None
        embeds, mask = self._embed(self.ids), self.ids_mask
        for token in dict.fromkeys(self._places):
            chosen = [each for place, each in zip(self._places, self._features) if place == token]
            counts = [len(each) for each in chosen]
            if token is None:
                embeds, mask = prepend(embeds, mask, torch.cat(chosen), counts)
            else:
                name = self._writer.token_name(token)
                embeds = scatter_in_order(embeds, self.ids == token, torch.cat(chosen), counts, name)
        return embeds, mask


def check_room(model: Any, prefix: ModelPrompt, max_new_tokens: int) -> None:
    """Hold a prompt and its answer against the positions that the language model was trained with.

    Raises:
        ValueError: it has no others.
    """
    text = model.config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    wanted = int(prefix.mask.sum(1).max()) + max_new_tokens
    if text.is_encoder_decoder or most is None or wanted <= most:
        return
    message = (
        f"the prompt and the answer take {wanted} positions, and the language model has {most}; "
        f"use fewer frames, a shorter text or fewer new tokens"
    )
    if text.model_type == "opt":  # its positions are a table
        raise ValueError(message)
    warnings.warn(f"{message}: answers will be worse", stacklevel=2)


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as ids [B, T] and mask [B, T]; the mask hides the pads, so their id does not matter."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def start(model: Any, prefix: ModelPrompt, max_new_tokens: int) -> Decoding:
    """Run the prefix once; what comes back can be continued in any number of ways."""
    check_room(model, prefix, max_new_tokens)
    if prefix.begin is not None:
        return prefix.begin(max_new_tokens)
    options = {}
    if model.config.get_text_config().is_encoder_decoder:
        token = model._decoder_start_token_id(model.generation_config)
        options["decoder_input_ids"] = torch.full((len(prefix.embeds), 1), token, device=prefix.embeds.device)
    return begin(model._language_model(), prefix.embeds, prefix.mask, max_new_tokens, **options)
