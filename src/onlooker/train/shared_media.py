"""Several rows about one picture or clip: the towers look once for all of them.

A batch then has `media_rows` [B], the number of the medium of each row, and as many pixels as there are media.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def blip2_loss(model: Any, pixel_values: Tensor, media_rows: Tensor, **inputs: Any) -> Tensor:
    """The loss of `Blip2ForConditionalGeneration`; the Q-Former looks once too, because it does not read the row."""
    features = model.image_features(pixel_values).pooler_output[media_rows]  # [B, Q, D]
    return _loss(model, features.flatten(0, 1), [features.shape[1]] * len(features), inputs)


def instructblip_loss(model: Any, pixel_values: Any, media_rows: Tensor, **inputs: Any) -> Tensor:
    """The loss of the InstructBLIP classes; the Q-Former looks once for each row, with its instruction."""
    pixels, frames = model.frames(pixel_values)
    pieces = model.vision_model(pixels, return_dict=True).last_hidden_state.split(frames)
    order = media_rows.tolist()
    tokens, _ = model.read_patches(
        torch.cat([pieces[row] for row in order]),
        [frames[row] for row in order],
        inputs.pop("qformer_input_ids"),
        inputs.pop("qformer_attention_mask", None),
    )
    return _loss(model, tokens, [frames[row] * model.query_tokens.shape[1] for row in order], inputs)


def _loss(model: Any, tokens: Tensor, counts: list[int], inputs: dict[str, Any]) -> Tensor:
    embeds, mask = model.merge(tokens, counts, inputs["input_ids"], inputs["attention_mask"], None)
    decoder = (inputs.get("decoder_input_ids"), inputs.get("decoder_attention_mask"))
    return model.answer(embeds, mask, inputs["labels"], *decoder, use_cache=False)[0]
