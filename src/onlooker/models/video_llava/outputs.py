"""Records that the Video-LLaVA classes return."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from onlooker.outputs import ModelOutput


class VideoLlavaModelOutputWithPast(ModelOutput):
    """Features [B, T, D], and the projected visual tokens that went in."""

    last_hidden_state: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_hidden_states: Tensor | None = None
    video_hidden_states: Tensor | None = None


class VideoLlavaCausalLMOutputWithPast(ModelOutput):
    """Loss, logits [B, T, V], and the projected visual tokens that went in."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_hidden_states: Tensor | None = None
    video_hidden_states: Tensor | None = None
