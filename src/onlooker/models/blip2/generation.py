"""BLIP-2 that writes: vision tower, Q-Former, projection, language model (arXiv:2301.12597).

Letters: B pictures and prompts, Q query tokens, T prompt positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onlooker.models.blip2.base import Blip2Encoder, Blip2PreTrainedModel
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.outputs import Blip2ForConditionalGenerationModelOutput, Blip2ImageFeatures
from onlooker.models.qformer_language import QFormerGeneration, QFormerLanguage
from onlooker.outputs import ModelOutput, output_options


class Blip2Composite(QFormerLanguage, Blip2PreTrainedModel, Blip2Encoder):
    """The whole of BLIP-2; its two public classes differ in what their feature methods return."""

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        self.build_language()

    def image_features(
        self,
        pixel_values: Tensor | None,
        interpolate_pos_encoding: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> Blip2ImageFeatures:
        """Pictures -> visual tokens, with the records of the parts."""
        vision, queries = self.look(pixel_values, interpolate_pos_encoding, output_attentions, output_hidden_states)
        tokens = self.project(queries.last_hidden_state, vision.last_hidden_state.dtype)
        return Blip2ImageFeatures(tokens, vision, queries)

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        *,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Blip2ForConditionalGenerationModelOutput | tuple:
        """Scores of the words behind a picture and a prompt.

        Args:
            pixel_values: [B, 3, h, w], normalised.
            input_ids: [B, T], with Q placeholders in each row; or inputs_embeds [B, T, D].
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            decoder_input_ids: [B, T'], for an encoder-decoder; made from `labels` by default.
            labels: [B, T''], -100 = not scored; gives `loss`. A decoder-only model's logits are cut to their length.
            interpolate_pos_encoding: for pictures of another size than the trained one.

        Raises:
            ValueError: no pictures, no prompt, or a row whose placeholders are not Q.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        features = self.image_features(pixel_values, interpolate_pos_encoding, need_weights, keep_states)
        embeds, mask = self.merge(*_by_row(features.pooler_output), input_ids, attention_mask, inputs_embeds)
        loss, logits, language = self.answer(
            embeds,
            mask,
            labels,
            decoder_input_ids,
            decoder_attention_mask,
            use_cache=use_cache,
            output_attentions=need_weights,
            output_hidden_states=keep_states,
        )
        output = Blip2ForConditionalGenerationModelOutput(
            loss, logits, features.vision_outputs, features.qformer_outputs, language
        )
        return output if as_record else output.to_tuple()


class Blip2Model(Blip2Composite):
    """BLIP-2 whose feature methods give the records of its three parts."""

    def forward(  # type: ignore[override]  # the documented order has no inputs_embeds
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **options: Any,
    ) -> Blip2ForConditionalGenerationModelOutput | tuple:
        """As `Blip2ForConditionalGeneration.forward`."""
        return super().forward(
            pixel_values,
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            labels=labels,
            interpolate_pos_encoding=interpolate_pos_encoding,
            **options,
        )

    def get_text_features(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        legacy_output: bool = True,
        **surplus: Any,
    ) -> ModelOutput | tuple | Tensor:
        """The language model's record over text alone.

        Args:
            legacy_output: False gives the logits alone, as newer code expects.
            surplus: other outputs of a tokenizer, ignored.
        """
        options: dict[str, Any] = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        if not self.config.use_decoder_only_language_model:
            options |= {"decoder_input_ids": decoder_input_ids, "decoder_attention_mask": decoder_attention_mask}
        record = self.language_model(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, return_dict=True, **options
        )
        return record.logits if not legacy_output else self._as_asked(record, return_dict)

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
        *,
        legacy_output: bool = True,
        **surplus: Any,
    ) -> ModelOutput | tuple | Tensor:
        """The vision tower's record; with legacy_output=False its pooler_output alone."""
        record = self.vision_model(
            pixel_values,
            interpolate_pos_encoding,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        return record.pooler_output if not legacy_output else self._as_asked(record, return_dict)

    def get_qformer_features(
        self,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        interpolate_pos_encoding: bool = False,
        *,
        legacy_output: bool = True,
        **surplus: Any,
    ) -> ModelOutput | tuple | Tensor:
        """The Q-Former's record; with legacy_output=False its last_hidden_state alone."""
        _, record = self.look(pixel_values, interpolate_pos_encoding, output_attentions, output_hidden_states)
        return record.last_hidden_state if not legacy_output else self._as_asked(record, return_dict)

    def _as_asked(self, record: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
        return record if (self.config.return_dict if return_dict is None else return_dict) else record.to_tuple()


class Blip2ForConditionalGeneration(QFormerGeneration, Blip2Composite):
    """BLIP-2 for captions and answers."""

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        return_dict: bool = False,
        **surplus: Any,
    ) -> Tensor | Blip2ImageFeatures:
        """Pictures [B, 3, h, w] -> visual tokens [B, Q, D of the language model].

        Args:
            return_dict: True gives a record with `pooler_output`, `vision_outputs` and `qformer_outputs`, which also
                unpacks as that tuple.
        """
        features = self.image_features(pixel_values, interpolate_pos_encoding)
        return features if return_dict else features.pooler_output

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        generation_config: Any = None,
        **options: Any,
    ) -> Any:
        """Write the words that follow a picture and a prompt.

        Args:
            pixel_values: [B, 3, h, w], normalised.
            input_ids: [B, T] with Q placeholders in each row; without a prompt every picture is captioned.
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            inputs_embeds: [B, T, D] in place of input_ids.
            generation_config: what to start from in place of `self.generation_config`.
            options: any field of GenerationConfig, and logits_processor, stopping_criteria, streamer, generator,
                tokenizer.

        Returns:
            Ids [B, ...]: the prompt as given and the new tokens; new tokens only after inputs_embeds; the start token
            and the new tokens of an encoder-decoder. With return_dict_in_generate a GenerateOutput.

        Raises:
            ValueError: a row whose placeholders are not Q, no bos token to begin from, or options that do not fit.
        """
        features, counts = _by_row(self.image_features(pixel_values, interpolate_pos_encoding).pooler_output)
        return self.continue_prompt(
            features, counts, input_ids, attention_mask, inputs_embeds, generation_config, options
        )


def _by_row(features: Tensor) -> tuple[Tensor, list[int]]:
    """[B, Q, D] -> [B * Q, D], and Q for each row."""
    return features.flatten(0, 1), [features.shape[1]] * len(features)
