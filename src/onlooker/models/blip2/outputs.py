"""Records that the BLIP-2 classes return."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from onlooker.outputs import FILLED, ModelOutput, UnpackingOutput


class Blip2ForConditionalGenerationModelOutput(ModelOutput):
    """Loss, logits [B, T, V] and the records of the three parts."""

    loss: Tensor | None = None
    logits: Tensor = FILLED
    vision_outputs: ModelOutput | None = None
    qformer_outputs: ModelOutput | None = None
    language_model_outputs: ModelOutput | None = None


class Blip2ImageFeatures(UnpackingOutput):
    """Visual tokens [B, Q, D of the language model] (a list for clips of unequal length), and the parts' records."""

    pooler_output: Any = FILLED
    vision_outputs: ModelOutput = FILLED
    qformer_outputs: ModelOutput = FILLED


class Blip2ImageTextMatchingModelOutput(ModelOutput):
    """Scores of pictures against texts, and what they were made from."""

    loss: Tensor | None = None
    logits_per_image: Tensor = FILLED
    logits_per_text: Tensor = FILLED
    text_embeds: Tensor = FILLED
    image_embeds: Tensor = FILLED
    text_model_output: ModelOutput | None = None
    vision_model_output: ModelOutput | None = None


class Blip2TextModelOutput(ModelOutput):
    """Text embeddings [B, T, d] of every position, normalised."""

    text_embeds: Tensor = FILLED
    last_hidden_state: Tensor = FILLED
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Blip2VisionModelOutput(ModelOutput):
    """Picture embeddings [B, Q, d], normalised."""

    image_embeds: Tensor = FILLED
    last_hidden_state: Tensor = FILLED
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
