"""The two parts of BLIP-2 that stand alone too: vision tower and Q-Former."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.bridge.qformer import QFormerEncoder, QFormerOutput
from onlooker.nn.dropout import drop
from onlooker.nn.initialize import init_normal
from onlooker.outputs import output_options
from onlooker.pretrained import PreTrainedModel
from onlooker.vision.config import Blip2VisionConfig
from onlooker.vision.eva import EvaVisionTransformer


class Blip2VisionModel(PreTrainedModel, EvaVisionTransformer):
    """Pictures [N, 3, h, w] -> features of every patch (see `EvaVisionTransformer`)."""

    config_class = Blip2VisionConfig
    base_model_prefix = "vision_model"
    part_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("EvaLayer",)


class QFormer(nn.Module):
    """Query embeddings in, query features out; text embeddings may stand behind the queries."""

    main_input_name = "query_embeds"

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob
        self.encoder = QFormerEncoder(config, has_text=config.use_qformer_text_input)
        init_normal(self, config.initializer_range)

    def forward(
        self,
        query_embeds: Tensor,
        query_length: int | None = None,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QFormerOutput | tuple:
        """Let the queries look at a picture.

        Args:
            query_embeds: [B, T, D], queries first, text embeddings behind them.
            query_length: how many of the T are queries; all by default, 0 for text alone.
            attention_mask: [B, T] or [B, T, T], 1 = keep.
            head_mask: [H] or [layers, H], multiplies the attention weights of each head.
            encoder_hidden_states: [B, S, vision hidden_size].
            encoder_attention_mask: [B, S], 1 = keep.
            past_key_values, use_cache: accepted and without effect: nothing here runs step by step.

        Raises:
            ValueError: queries without encoder_hidden_states, or text without text layers.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        x = self.layernorm(query_embeds.to(self.layernorm.weight.dtype))
        x = drop(x, self.dropout, self.training)
        output = self.encoder(
            x,
            x.shape[1] if query_length is None else query_length,
            attention_mask=attention_mask,
            head_mask=head_mask,
            source=encoder_hidden_states,
            source_mask=encoder_attention_mask,
            need_weights=need_weights,
            keep_states=keep_states,
        )
        return output if as_record else output.to_tuple()


class Blip2QFormerModel(PreTrainedModel, QFormer):
    """BLIP-2's Querying Transformer (see `QFormer`)."""

    config_class = Blip2QFormerConfig
    base_model_prefix = "qformer"
    part_prefixes: ClassVar[tuple[str, ...]] = ("qformer.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("QFormerLayer",)

    def keep_in_fp32(self, dtype: torch.dtype) -> tuple[str, ...]:
        return (r".*",) if dtype == torch.float16 else ()
