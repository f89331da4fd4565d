"""Visual features into the places that the prompt keeps for them."""

from __future__ import annotations

import torch
from torch import Tensor


def scatter_rows(
    inputs_embeds: Tensor, placeholders: Tensor, features: Tensor, counts: list[int], what: str = "<image>"
) -> Tensor:
    """Write every row's visual features over its placeholder tokens, in order.

    Args:
        inputs_embeds: [B, T, D]; left as it is, a new tensor comes back.
        placeholders: [B, T], True where a feature goes.
        features: [sum of counts, D], row after row.
        counts: features of each row, B of them.
        what: name of the placeholder token, for the message.

    Raises:
        ValueError: a row has another number of placeholders than features, or rows differ in number.
    """
    check_rows(inputs_embeds, counts)
    if not inputs_embeds.is_meta:
        for row, (places, count) in enumerate(zip(placeholders.sum(1).tolist(), counts)):
            if places != count:
                raise ValueError(
                    f"row {row} of the batch has {places} {what} tokens, and its picture or clip gives {count} "
                    f"features. Let the processor write the placeholders (its num_query_tokens must be the model's), "
                    f"and check that truncation did not cut them."
                )
    return inputs_embeds.masked_scatter(placeholders[..., None], features.to(inputs_embeds.dtype))


def prepend(
    inputs_embeds: Tensor, attention_mask: Tensor, features: Tensor, counts: list[int]
) -> tuple[Tensor, Tensor]:
    """Put the features in front of every row, as checkpoints without a placeholder token want it.

    Rows with fewer features than others are padded in front.

    Raises:
        ValueError: rows differ in number.
    """
    check_rows(inputs_embeds, counts)
    longest = max(counts)
    blocks = inputs_embeds.new_zeros(len(counts), longest, inputs_embeds.shape[-1])
    mask = attention_mask.new_zeros(len(counts), longest)
    for row, block in enumerate(features.to(inputs_embeds.dtype).split(counts)):
        blocks[row, longest - len(block) :] = block
        mask[row, longest - len(block) :] = 1
    return torch.cat([blocks, inputs_embeds], dim=1), torch.cat([mask, attention_mask], dim=1)


def check_rows(inputs_embeds: Tensor, counts: list[int]) -> None:
    """
    Raises:
        ValueError: there are not as many prompts as pictures or clips.
    """
    if len(counts) != len(inputs_embeds):
        raise ValueError(
            f"{len(counts)} pictures for {len(inputs_embeds)} prompts: this family takes one picture or clip for each "
            f"prompt. Give as many prompts as pictures, and ask about several pictures one by one."
        )


def scatter_in_order(
    inputs_embeds: Tensor, placeholders: Tensor, features: Tensor, counts: list[int], what: str
) -> Tensor:
    """Write the features of all pictures or clips over the placeholders of the batch, in row-major order.

    Pixels carry no row number here, so each row's placeholders must make whole pictures or clips.

    Args:
        inputs_embeds: [B, T, D]; left as it is, a new tensor comes back.
        placeholders: [B, T], True where a feature goes.
        features: [sum of counts, D], one picture or clip after the other.
        counts: features of each picture or clip.
        what: name of the placeholder token, for the message.

    Raises:
        ValueError: placeholders and features differ in number, or a row has part of a picture or clip.
    """
    if not inputs_embeds.is_meta:
        wanted = placeholders.sum(1).tolist()
        if sum(wanted) != sum(counts):
            raise ValueError(
                f"the prompts have {sum(wanted)} {what} tokens, and the {len(counts)} pictures or clips give "
                f"{sum(counts)} features. Let the processor write the placeholders, and check that "
                f"truncation did not cut them."
            )
        left = list(counts)
        for row, places in enumerate(wanted):
            while places > 0 and left and left[0] <= places:
                places -= left.pop(0)
            if places:
                raise ValueError(
                    f"row {row} of the batch has {wanted[row]} {what} tokens, which is not a whole number of pictures "
                    f"or clips of {sorted(set(counts))} features: a picture would be split between rows."
                )
    return inputs_embeds.masked_scatter(placeholders[..., None], features.to(inputs_embeds.dtype))
