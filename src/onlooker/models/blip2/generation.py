"""BLIP-2 that writes: vision tower, Q-Former, projection, language model (arXiv:2301.12597).

Letters: B pictures and prompts, Q query tokens, T prompt positions, V vocabulary.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.bridge.scatter import prepend, scatter_rows
from onlooker.language.choose import tied_weights
from onlooker.language.loss import next_token_loss
from onlooker.models.blip2.base import Blip2Encoder, Blip2PreTrainedModel
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.outputs import Blip2ForConditionalGenerationModelOutput, Blip2ImageFeatures
from onlooker.models.generation import Prompt, VisualGeneration
from onlooker.models.language import language_model
from onlooker.nn.initialize import init_normal
from onlooker.outputs import ModelOutput, output_options


class Blip2Composite(Blip2PreTrainedModel, Blip2Encoder):
    """The whole of BLIP-2; its two public classes differ in what their feature methods return."""

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        text = config.text_config
        if getattr(text, "word_embed_proj_dim", None) not in (None, text.hidden_size):
            raise ValueError(
                f"text_config has word_embed_proj_dim {text.word_embed_proj_dim} and hidden_size {text.hidden_size}; "
                f"BLIP-2 puts pictures among the word embeddings, so the two must be equal"
            )
        self.language_projection = nn.Linear(config.qformer_config.hidden_size, text.hidden_size)
        init_normal(self.language_projection, config.initializer_range)
        self.language_model = language_model(text)

    def tied_weights(self) -> dict[str, str]:
        ties = tied_weights(self.language_model)
        return {f"language_model.{name}": f"language_model.{kept}" for name, kept in ties.items()}

    def tie_weights(self) -> None:
        self.language_model.tie_weights()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.language_model.set_input_embeddings(module)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.language_model.set_output_embeddings(module)

    def get_encoder(self) -> nn.Module:
        return self.language_model.get_encoder()

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def project(self, query_output: Tensor, vision_dtype: torch.dtype) -> Tensor:
        """Query features [B, Q, D] -> visual tokens [B, Q, D of the language model]."""
        weight = self.language_projection.weight
        return self.language_projection(query_output.to(weight.dtype if weight.is_floating_point() else vision_dtype))

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

    def merge(
        self, features: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None, inputs_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Put visual tokens [B, Q, D] among the prompt's embeddings.

        Returns:
            Embeddings [B, T, D] and mask [B, T]; T grows by Q when the prompt keeps no place for the picture.

        Raises:
            ValueError: no prompt at all, or placeholders and features differ in a row.
        """
        embed = self.get_input_embeddings()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids is missing: give a prompt, or call generate(), which can begin without one")
            inputs_embeds = embed(input_ids)
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        features, attention_mask = features.to(inputs_embeds.device), attention_mask.to(inputs_embeds.device)
        placeholder = self.config.image_token_index
        if placeholder is not None:
            if input_ids is not None:
                places = input_ids.to(inputs_embeds.device) == placeholder
            else:
                token = embed(torch.tensor([placeholder], device=inputs_embeds.device)).to(inputs_embeds.device)
                places = (inputs_embeds == token).all(-1)
            if inputs_embeds.is_meta or bool(places.any()):
                return scatter_rows(inputs_embeds, places, features), attention_mask
        warnings.warn(
            "the prompt keeps no place for the picture: its features are put in front of the text. Let the processor "
            "write the placeholders (processor.num_query_tokens and the model's image_token_index must be set).",
            stacklevel=3,
        )
        return prepend(inputs_embeds, attention_mask, features)

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
        embeds, mask = self.merge(features.pooler_output, input_ids, attention_mask, inputs_embeds)
        options: dict[str, Any] = {
            "use_cache": use_cache,
            "output_attentions": need_weights,
            "output_hidden_states": keep_states,
            "return_dict": True,
        }
        if self.config.use_decoder_only_language_model:
            language = self.language_model(inputs_embeds=embeds, attention_mask=mask, **options)
            loss, logits = None, language.logits
            if labels is not None:
                logits = logits[:, -labels.shape[1] :]
                loss = next_token_loss(logits, labels, mask[:, -labels.shape[1] :])
        else:
            language = self.language_model(
                inputs_embeds=embeds,
                attention_mask=mask,
                decoder_input_ids=decoder_input_ids,
                decoder_attention_mask=decoder_attention_mask,
                labels=labels,
                **options,
            )
            loss, logits = language.loss, language.logits
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


class Blip2ForConditionalGeneration(VisualGeneration, Blip2Composite):
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
        features = self.image_features(pixel_values, interpolate_pos_encoding).pooler_output
        if input_ids is None and inputs_embeds is None:
            input_ids = self._empty_prompt(len(features), features.device)
            attention_mask = None
        embeds, mask = self.merge(features, input_ids, attention_mask, inputs_embeds)
        return self.write(Prompt(embeds, mask, input_ids, attention_mask), generation_config, options)

    def _empty_prompt(self, count: int, device: torch.device) -> Tensor:
        bos = self.config.text_config.bos_token_id
        if bos is None:
            raise ValueError("text_config has no bos_token_id to begin from: give a prompt (an empty one will do)")
        placeholder, places = self.config.image_token_index, self.config.num_query_tokens
        prompt = [bos] if placeholder is None else [placeholder] * places + [bos]
        return torch.tensor([prompt], device=device).expand(count, -1)
