"""Images and prompts as one batch that a language model can go on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onlooker.bridge.scatter import prepend
from onlooker.language.choose import begin
from onlooker.language.protocol import Decoding
from onlooker.models.generation import Prompt as ModelPrompt
from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.prompts import PromptWriter


def make_prefix(model: Any, writer: PromptWriter, images: Sequence[Encoded], prompts: Sequence[str]) -> ModelPrompt:
    """Write every prompt, padded on the left, with its image's visual tokens in place."""
    device = model.get_input_embeddings().weight.device
    ids, mask = left_padded([writer.ids(prompt) for prompt in prompts], device)
    features = torch.cat([image.features for image in images]).to(device)
    counts = [len(image.features) for image in images]
    if writer.image_token_id is None:  # an old file: no token keeps a place, the features go in front
        embeds, whole_mask = prepend(model.get_input_embeddings()(ids), mask, features, counts)
    else:
        embeds, whole_mask = model.merge(features, counts, ids, mask, None)
    return ModelPrompt(embeds, whole_mask, ids, mask)


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of unequal length as ids [B, T] and mask [B, T]; the mask hides the pads, so their id does not matter."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def start(model: Any, prefix: ModelPrompt, max_new_tokens: int) -> Decoding:
    """Run the prefix once; what comes back can be continued in any number of ways."""
    options = {}
    if model.config.get_text_config().is_encoder_decoder:
        token = model._decoder_start_token_id(model.generation_config)
        options["decoder_input_ids"] = torch.full((len(prefix.embeds), 1), token, device=prefix.embeds.device)
    return begin(model.language_model, prefix.embeds, prefix.mask, max_new_tokens, **options)
