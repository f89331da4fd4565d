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


def make_prefix(model: Any, writer: PromptWriter, rows: Sequence[Row]) -> ModelPrompt:
    """Write every prompt, padded on the left, with the visual tokens of its media in place.

    Raises:
        ValueError: media and their places differ in number, or a prompt is longer than the language model can read.
    """
    device = model.get_input_embeddings().weight.device
    ids, mask = left_padded([writer.ids(row.text, row.media) for row in rows], device)
    embeds = model.get_input_embeddings()(ids)
    media = [seen for row in rows for seen in row.media]
    features = [each.to(device) for each in writer.family.visual_tokens(model, rows)]
    whole_mask = mask
    tokens = writer.family.placeholders
    for token in dict.fromkeys(tokens[seen.kind] for seen in media):
        chosen = [each for seen, each in zip(media, features) if tokens[seen.kind] == token]
        counts = [len(each) for each in chosen]
        if token is None:  # an old file: no token keeps a place, the features go in front
            embeds, whole_mask = prepend(embeds, mask, torch.cat(chosen), counts)
        else:
            embeds = scatter_in_order(embeds, ids == token, torch.cat(chosen), counts, writer.token_name(token))
    return ModelPrompt(embeds, whole_mask, ids, mask)


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
