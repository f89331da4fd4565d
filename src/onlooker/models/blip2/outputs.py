"""Records that the BLIP-2 classes return."""

from __future__ import annotations

from torch import Tensor

from onlooker.outputs import ModelOutput, UnpackingOutput


class Blip2ForConditionalGenerationModelOutput(ModelOutput):
    """Loss, logits [B, T, V] and the records of the three parts."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    vision_outputs: ModelOutput | None = None
    qformer_outputs: ModelOutput | None = None
    language_model_outputs: ModelOutput | None = None


class Blip2ImageFeatures(UnpackingOutput):
    """Visual tokens [B, Q, D of the language model], and the records of the two parts that made them."""

    pooler_output: Tensor | None = None
    vision_outputs: ModelOutput | None = None
    qformer_outputs: ModelOutput | None = None


class Blip2ImageTextMatchingModelOutput(ModelOutput):
    """Scores of pictures against texts, and what they were made from."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    text_embeds: Tensor | None = None
    image_embeds: Tensor | None = None
    text_model_output: ModelOutput | None = None
    vision_model_output: ModelOutput | None = None


class Blip2TextModelOutput(ModelOutput):
    """Text embeddings [B, T, d] of every position, normalised."""

    text_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Blip2VisionModelOutput(ModelOutput):
    """Picture embeddings [B, Q, d], normalised."""

    image_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
