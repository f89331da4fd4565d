"""The parts of InstructBLIP (arXiv:2305.06500): BLIP-2's vision tower, and a Q-Former that reads the instruction."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.bridge.qformer import QFormerEncoder, QFormerOutput
from onlooker.bridge.text_embeddings import QFormerTextEmbeddings
from onlooker.config import Config
from onlooker.models.instructblip.config import (
    InstructBlipQFormerConfig,
    InstructBlipVideoQFormerConfig,
    InstructBlipVideoVisionConfig,
    InstructBlipVisionConfig,
)
from onlooker.nn.dropout import drop
from onlooker.nn.initialize import init_normal
from onlooker.outputs import output_options
from onlooker.pretrained import PreTrainedModel
from onlooker.vision.eva import EvaVisionTransformer


class InstructBlipVisionModel(PreTrainedModel, EvaVisionTransformer):
    """Pictures [N, 3, h, w] -> features of every patch (see `EvaVisionTransformer`)."""

    config_class: ClassVar[type[Config]] = InstructBlipVisionConfig
    base_model_prefix = "vision_model"
    part_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("EvaLayer",)


class InstructBlipVideoVisionModel(InstructBlipVisionModel):
    """Frames [N, 3, h, w] -> features of every patch (see `EvaVisionTransformer`)."""

    config_class = InstructBlipVideoVisionConfig


class InstructQFormerEmbeddings(QFormerTextEmbeddings):
    """Queries in front, the instruction behind them, normalised together."""

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob

    def forward(
        self, input_ids: Tensor | None, position_ids: Tensor | None = None, query_embeds: Tensor | None = None
    ) -> Tensor:
        """
        Raises:
            ValueError: neither text nor queries.
        """
        if input_ids is not None:
            x = super().forward(input_ids, position_ids, query_embeds)
        elif query_embeds is not None:
            x = query_embeds
        else:
            raise ValueError("give input_ids, query_embeds or both: there is nothing for the Q-Former to read")
        x = self.layernorm(x.to(self.layernorm.weight.dtype))
        return drop(x, self.dropout, self.training)


class InstructQFormer(nn.Module):
    """The Q-Former that reads the instruction beside its queries."""

    main_input_name = "input_ids"

    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = InstructQFormerEmbeddings(config)
        self.encoder = QFormerEncoder(config, has_text=True)
        init_normal(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        query_embeds: Tensor | None = None,
        head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QFormerOutput | tuple:
        """Let queries and instruction look at a picture.

        Args:
            input_ids: [B, T] the instruction.
            attention_mask: [B, Q + T] or [B, Q + T, Q + T], 1 = keep.
            position_ids: [B, T]; 0, 1, ... by default.
            query_embeds: [B, Q, D].
            head_mask: [H] or [layers, H], multiplies the attention weights of each head.
            encoder_hidden_states: [B, S, vision hidden_size]; encoder_attention_mask: [B, S].

        Raises:
            ValueError: neither text nor queries, or queries without encoder_hidden_states.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        queries = 0 if query_embeds is None else query_embeds.shape[1]
        output = self.encoder(
            self.embeddings(input_ids, position_ids, query_embeds),
            queries,
            attention_mask=attention_mask,
            head_mask=head_mask,
            source=encoder_hidden_states,
            source_mask=encoder_attention_mask,
            need_weights=need_weights,
            keep_states=keep_states,
        )
        return output if as_record else output.to_tuple()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.embeddings.word_embeddings = module  # type: ignore[assignment]


class InstructBlipQFormerModel(PreTrainedModel, InstructQFormer):
    """InstructBLIP's Querying Transformer (see `InstructQFormer`)."""

    config_class: ClassVar[type[Config]] = InstructBlipQFormerConfig
    base_model_prefix = "qformer"
    part_prefixes: ClassVar[tuple[str, ...]] = ("qformer.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("QFormerLayer", "InstructQFormerEmbeddings")


class InstructBlipVideoQFormerModel(InstructBlipQFormerModel):
    """InstructBLIP's Querying Transformer (see `InstructQFormer`)."""

    config_class = InstructBlipVideoQFormerConfig
