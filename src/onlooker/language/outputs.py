"""Records that the language models return."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from onlooker.outputs import FILLED, ModelOutput


class CausalLMOutput(ModelOutput):
    """Of a decoder-only model: logits [B, T, V]."""

    loss: Tensor | None = None
    logits: Tensor = FILLED
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class Seq2SeqLMOutput(ModelOutput):
    """Of an encoder-decoder: logits [B, T, V] of the decoder's positions."""

    loss: Tensor | None = None
    logits: Tensor = FILLED
    past_key_values: Any = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


class StackOutput(ModelOutput):
    """Of a stack of layers: features [B, T, D], and per layer what was asked for."""

    last_hidden_state: Tensor = FILLED
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
