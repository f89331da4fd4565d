"""Video-LLaVA that writes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onlooker.generate.config import GenerationConfig
from onlooker.language.decoder import CausalLM, keep_positions
from onlooker.language.loss import next_token_loss
from onlooker.models.generation import Clips, Generation, Prompt
from onlooker.models.video_llava.config import VideoLlavaConfig
from onlooker.models.video_llava.model import VideoLlavaModel, VideoLlavaPreTrainedModel
from onlooker.models.video_llava.outputs import VideoLlavaCausalLMOutputWithPast
from onlooker.nn.cache import KVCache
from onlooker.nn.initialize import init_normal
from onlooker.outputs import output_options
from onlooker.weights.naming import RenameTable


class VideoLlavaForConditionalGeneration(Generation, VideoLlavaPreTrainedModel, CausalLM):
    """Video-LLaVA with its language-model head."""

    base_model_prefix = "model"
    disk_names = RenameTable(
        [
            ("language_model.lm_head.{rest:.+}", "lm_head.{rest}"),
            ("language_model.model.{rest:.+}", "model.language_model.{rest}"),
            ("image_tower.{rest:.+}", "model.image_tower.{rest}"),
            ("video_tower.{rest:.+}", "model.video_tower.{rest}"),
            ("multi_modal_projector.{rest:.+}", "model.multi_modal_projector.{rest}"),
        ]
    )

    def __init__(self, config: VideoLlavaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = VideoLlavaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        init_normal(self.lm_head, config.initializer_range)
        self.tie_weights()

    @property
    def language_model(self) -> nn.Module:
        return self.model.language_model

    @property
    def image_tower(self) -> nn.Module:
        return self.model.image_tower

    @property
    def video_tower(self) -> nn.Module:
        return self.model.video_tower

    @property
    def multi_modal_projector(self) -> nn.Module:
        return self.model.multi_modal_projector

    def tied_weights(self) -> dict[str, str]:
        tied = self.config.text_config.tie_word_embeddings
        return {"lm_head.weight": "model.language_model.embed_tokens.weight"} if tied else {}

    def tie_weights(self) -> None:
        if self.config.text_config.tie_word_embeddings:
            self.lm_head.weight = self.model.language_model.embed_tokens.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.model.set_input_embeddings(module)

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.lm_head = module  # type: ignore[assignment]

    def get_decoder(self) -> nn.Module:
        return self.model.language_model

    def get_image_features(self, *args: Any, **kwargs: Any) -> Tensor:
        """As `VideoLlavaModel.get_image_features`."""
        return self.model.get_image_features(*args, **kwargs)

    def get_video_features(self, *args: Any, **kwargs: Any) -> tuple[Tensor, int | list[int]]:
        """As `VideoLlavaModel.get_video_features`."""
        return self.model.get_video_features(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        return self.model.language_model(*args, **kwargs)

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        pixel_values_images: Tensor | None = None,
        pixel_values_videos: Clips | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        pixel_values: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VideoLlavaCausalLMOutputWithPast | tuple:
        """Scores of the next token at every position (see `VideoLlavaModel.forward`).

        Args:
            labels: [B, T], -100 = not scored; gives `loss`.
            logits_to_keep: only the last n positions, or the positions of an index tensor; 0 keeps all.
            pixel_values: newer name of pixel_values_images.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        pixel_values_images = pixel_values if pixel_values_images is None else pixel_values_images
        embeds, mask, images, videos = self.model.merge(
            input_ids,
            inputs_embeds,
            attention_mask,
            pixel_values_images,
            pixel_values_videos,
            vision_feature_layer,
            vision_feature_select_strategy,
        )
        states = self.model(
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=embeds,
            use_cache=use_cache,
            output_attentions=need_weights,
            output_hidden_states=keep_states,
            return_dict=True,
        )
        logits = self.lm_head(keep_positions(states.last_hidden_state, logits_to_keep))
        loss = None if labels is None else next_token_loss(logits, labels, mask)
        output = VideoLlavaCausalLMOutputWithPast(
            loss, logits, states.past_key_values, states.hidden_states, states.attentions, images, videos
        )
        return output if as_record else output.to_tuple()

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values_images: Tensor | None = None,
        pixel_values_videos: Clips | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        pixel_values: Tensor | None = None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
        **options: Any,
    ) -> Any:
        """Write the words that follow a prompt with pictures and clips.

        Args:
            input_ids: [B, T], with placeholders as a processor writes them; or inputs_embeds [B, T, D].
            pixel_values_images, pixel_values_videos: as for `forward`.
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            options: any field of GenerationConfig, and logits_processor, stopping_criteria, streamer, generator,
                tokenizer.

        Returns:
            Ids [B, ...]: the prompt as given and the new tokens; new tokens only after inputs_embeds. With
            return_dict_in_generate a GenerateOutput.

        Raises:
            ValueError: no prompt, placeholders that do not fit the pictures, or options that do not fit.
        """
        pixel_values_images = pixel_values if pixel_values_images is None else pixel_values_images
        embeds, mask, _, _ = self.model.merge(
            input_ids,
            inputs_embeds,
            attention_mask,
            pixel_values_images,
            pixel_values_videos,
            vision_feature_layer,
            vision_feature_select_strategy,
        )
        if mask is None:
            mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        return self.write(Prompt(embeds, mask, input_ids, attention_mask), generation_config, options)

    def _language_model(self) -> nn.Module:
        return self

    def _default_generation_config(self) -> GenerationConfig:
        """From the text configuration; the composite's own token ids win."""
        own = {name: getattr(self.config, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        text = self.config.text_config.to_dict()
        return GenerationConfig.from_model_config(text | {name: id for name, id in own.items() if id is not None})
