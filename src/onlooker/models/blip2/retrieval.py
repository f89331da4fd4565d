"""BLIP-2 that compares pictures with texts: matching (ITM), contrast (ITC), and the embeddings alone.

Letters: B texts, N pictures, Q query tokens, T text positions, d retrieval width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.bridge.text_embeddings import QFormerTextEmbeddings
from onlooker.config import Config
from onlooker.models.blip2.base import Blip2Encoder, Blip2PreTrainedModel
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.outputs import (
    Blip2ImageTextMatchingModelOutput,
    Blip2TextModelOutput,
    Blip2VisionModelOutput,
)
from onlooker.models.blip2.parts import Blip2QFormerModel
from onlooker.nn.initialize import init_normal
from onlooker.nn.masks import compact, positions
from onlooker.outputs import output_options


def _text_embeddings(config: Blip2Config) -> QFormerTextEmbeddings:
    embeddings = QFormerTextEmbeddings(config.qformer_config)
    init_normal(embeddings, config.qformer_config.initializer_range)
    return embeddings


def _head(config: Blip2Config, size: int) -> nn.Linear:
    head = nn.Linear(config.qformer_config.hidden_size, size)
    init_normal(head, config.initializer_range)
    return head


def _embed(head: nn.Linear, states: Tensor) -> Tensor:
    """Project and scale to length 1."""
    return F.normalize(head(states.to(head.weight.dtype)), dim=-1)


class Blip2ForImageTextRetrieval(Blip2PreTrainedModel, Blip2Encoder):
    """How well texts fit pictures, by the matching head or by cosine."""

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        self.embeddings = _text_embeddings(config)
        self.vision_projection = _head(config, config.image_text_hidden_size)
        self.text_projection = _head(config, config.image_text_hidden_size)
        self.itm_head = _head(config, 2)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def vocabulary_config(self) -> Config:
        return self.config.qformer_config

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.embeddings.word_embeddings = module  # type: ignore[assignment]

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_image_text_matching_head: bool = False,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Blip2ImageTextMatchingModelOutput | tuple:
        """Compare pictures with texts.

        Args:
            pixel_values: [N, 3, h, w], normalised.
            input_ids: [B, T]; placeholders in front, as a processor with num_query_tokens writes them, are cut off.
            attention_mask: [B, T], 1 = attended.
            use_image_text_matching_head: True scores text i against picture i (B = N): `logits_per_image` [N, 2],
                index 1 = match, softmax gives probabilities. False gives the cosine of every pair,
                `logits_per_image` [N, B], without a temperature.

        Raises:
            ValueError: other than one text for each picture with the matching head, or some of the placeholders.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        options = {"output_attentions": need_weights, "output_hidden_states": keep_states, "return_dict": True}
        ids, mask = self._text(input_ids, attention_mask)
        if use_image_text_matching_head and pixel_values is not None and len(pixel_values) != len(ids):
            raise ValueError(
                f"{len(pixel_values)} pictures and {len(ids)} texts: the matching head scores text i against picture "
                f"i. Repeat the picture for each text, or leave use_image_text_matching_head off to score every pair."
            )
        vision = self.vision_model(pixel_values, **options)
        compare = self.match if use_image_text_matching_head else self.contrast
        output = compare(vision.last_hidden_state, ids, mask, **options)
        output.vision_model_output = vision
        return output if as_record else output.to_tuple()

    def _text(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The words alone, padded on the right: the first word must stand in front, because it is what is compared."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        places, placeholder = self.config.num_query_tokens, self.config.image_token_index
        if placeholder is not None:
            kept = (input_ids[:, :places] == placeholder).sum(1)
            if bool((kept == places).all()):
                input_ids, mask = input_ids[:, places:], mask[:, places:]
            elif bool((input_ids[:, :1] == placeholder).any()):
                raise ValueError(
                    f"the texts begin with {', '.join(map(str, kept.tolist()))} <image> tokens; wanted {places} in "
                    f"every row, as a processor with num_query_tokens={places} writes them, or none"
                )
        ids, lengths = compact(input_ids, mask)
        return ids, (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()

    def match(
        self, image_embeds: Tensor, ids: Tensor, mask: Tensor, **options: bool
    ) -> Blip2ImageTextMatchingModelOutput:
        """Score text i against picture i, from vision features [N, 1 + P, D] and words padded on the right [N, T]."""
        queries = self.query_tokens.expand(len(ids), -1, -1).to(ids.device)
        joined = self.qformer(
            self.embeddings(ids, query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1),
            encoder_hidden_states=image_embeds,
            **options,
        )
        states = joined.last_hidden_state.to(self.itm_head.weight.dtype)
        logits = self.itm_head(states[:, : queries.shape[1]]).mean(1)  # [N, 2]
        return Blip2ImageTextMatchingModelOutput(None, logits, logits.t(), states, image_embeds, joined)

    def contrast(
        self, image_embeds: Tensor, ids: Tensor, mask: Tensor, **options: bool
    ) -> Blip2ImageTextMatchingModelOutput:
        """Cosine of every pair, from vision features [N, 1 + P, D] and words padded on the right [B, T]."""
        looked = self.query(image_embeds, **options)
        text = self.qformer(self.embeddings(ids), query_length=0, attention_mask=mask, **options)
        pictures = _embed(self.vision_projection, looked.last_hidden_state)  # [N, Q, d]
        texts = _embed(self.text_projection, text.last_hidden_state[:, 0])  # [B, d]
        logits = (pictures @ texts.t()).amax(1)  # the best query of each picture counts: [N, B]
        return Blip2ImageTextMatchingModelOutput(None, logits, logits.t(), texts, pictures, text)


class Blip2TextModelWithProjection(Blip2PreTrainedModel, nn.Module):
    """Text alone -> retrieval embeddings."""

    main_input_name = "input_ids"

    def __init__(self, config: Blip2Config) -> None:
        super().__init__()
        self.config = config
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
        self.embeddings = _text_embeddings(config)
        self.qformer = Blip2QFormerModel(config.qformer_config)
        self.text_projection = _head(config, config.image_text_hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def vocabulary_config(self) -> Config:
        return self.config.qformer_config

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.embeddings.word_embeddings = module  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **surplus: Any,
    ) -> Blip2TextModelOutput | tuple:
        """Texts [B, T] -> `text_embeds` [B, T, d], one for every position; the first attended one stands for the text.

        Raises:
            ValueError: input_ids is missing.
        """
        if input_ids is None:
            raise ValueError("input_ids is missing: this model reads text")
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        if position_ids is None and attention_mask is not None:
            position_ids = positions(attention_mask).clamp(min=0)
        text = self.qformer(
            self.embeddings(input_ids, position_ids),
            query_length=0,
            attention_mask=attention_mask,
            output_attentions=need_weights,
            output_hidden_states=keep_states,
            return_dict=True,
        )
        embeds = _embed(self.text_projection, text.last_hidden_state)
        output = Blip2TextModelOutput(embeds, text.last_hidden_state, text.hidden_states, text.attentions)
        return output if as_record else output.to_tuple()


class Blip2VisionModelWithProjection(Blip2PreTrainedModel, Blip2Encoder):
    """Pictures alone -> retrieval embeddings."""

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        self.vision_projection = _head(config, config.image_text_hidden_size)

    def get_input_embeddings(self) -> nn.Module:
        return self.vision_model.embeddings.patch_embedding

    def forward(
        self,
        pixel_values: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
        **surplus: Any,
    ) -> Blip2VisionModelOutput | tuple:
        """Pictures [N, 3, h, w] -> `image_embeds` [N, Q, d], one for every query; the rest is the vision tower's."""
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        vision, looked = self.look(pixel_values, interpolate_pos_encoding, need_weights, keep_states)
        embeds = _embed(self.vision_projection, looked.last_hidden_state)
        output = Blip2VisionModelOutput(embeds, vision.last_hidden_state, vision.hidden_states, vision.attentions)
        return output if as_record else output.to_tuple()
