"""Visual features into the places that the prompt keeps for them."""

from __future__ import annotations

import torch
from torch import Tensor


def scatter_rows(inputs_embeds: Tensor, placeholders: Tensor, features: Tensor, what: str = "<image>") -> Tensor:
    """Write every row's visual features over its placeholder tokens, in order.

    Args:
        inputs_embeds: [B, T, D]; left as it is, a new tensor comes back.
        placeholders: [B, T], True where a feature goes.
        features: [B, Q, D].
        what: name of the placeholder token, for the message.

    Raises:
        ValueError: a row has another number of placeholders than features, or rows differ in number.
    """
    if len(features) != len(inputs_embeds):
        raise ValueError(
            f"{len(features)} pictures for {len(inputs_embeds)} prompts: this family takes one picture for each prompt. "
            f"Give as many prompts as pictures, and ask about several pictures one by one."
        )
    wanted = placeholders.sum(1)
    if not inputs_embeds.is_meta and bool((wanted != features.shape[1]).any()):
        row = int((wanted != features.shape[1]).nonzero()[0])
        raise ValueError(
            f"row {row} of the batch has {int(wanted[row])} {what} tokens, and its picture gives {features.shape[1]} features. "
            f"Let the processor write the placeholders (its num_query_tokens must be {features.shape[1]}), and check that "
            f"truncation did not cut them."
        )
    return inputs_embeds.masked_scatter(placeholders[..., None], features.to(inputs_embeds.dtype))


def prepend(inputs_embeds: Tensor, attention_mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Put the features in front of every row, as checkpoints without a placeholder token want it.

    Raises:
        ValueError: rows differ in number.
    """
    if len(features) != len(inputs_embeds):
        raise ValueError(f"{len(features)} pictures for {len(inputs_embeds)} prompts: give one prompt for each picture")
    ones = attention_mask.new_ones(features.shape[:2])
    return torch.cat([features.to(inputs_embeds.dtype), inputs_embeds], dim=1), torch.cat([ones, attention_mask], dim=1)
