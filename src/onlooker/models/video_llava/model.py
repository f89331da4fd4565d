"""Video-LLaVA (arXiv:2311.10122): pictures and clips as visual tokens among the words of a LLaMA.

Letters: n pictures or clips, F frames, P patches, B rows of text, T positions, D hidden of the language model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from onlooker.bridge.projector import MultiModalProjector
from onlooker.bridge.scatter import prepend, scatter_in_order
from onlooker.language.decoder import new_cache, run_decoder
from onlooker.language.llama import LlamaDecoder
from onlooker.models.generation import Clips
from onlooker.models.video_llava.config import VideoLlavaConfig
from onlooker.models.video_llava.outputs import VideoLlavaModelOutputWithPast
from onlooker.nn.cache import KVCache
from onlooker.nn.initialize import init_normal
from onlooker.outputs import output_options
from onlooker.pretrained import PreTrainedModel
from onlooker.vision.clip import CLIPVisionTower
from onlooker.vision.config import CLIPVisionConfig
from onlooker.weights.layouts import video_llava as layouts
from onlooker.weights.naming import RenameTable
from onlooker.weights.reading import StoredTensor


class CLIPVisionModel(PreTrainedModel, CLIPVisionTower):
    """CLIP's vision tower (see `CLIPVisionTower`)."""

    config_class = CLIPVisionConfig
    base_model_prefix = "vision_model"
    part_prefixes: ClassVar[tuple[str, ...]] = ("image_tower.", "model.image_tower.")
    _no_split_modules: ClassVar[tuple[str, ...]] = ("CLIPLayer", "CLIPTimeLayer")


class VideoLlavaPreTrainedModel(PreTrainedModel):
    """Facts about Video-LLaVA checkpoints."""

    config_class = VideoLlavaConfig
    config: VideoLlavaConfig
    main_input_name = "input_ids"
    _no_split_modules: ClassVar[tuple[str, ...]] = ("CLIPLayer", "CLIPTimeLayer", "LlamaLayer")
    #: towers of newer files lack a level
    rename: ClassVar[list[tuple[str, str]]] = [
        (r"^((?:model\.)?(?:image|video)_tower)\.(?!vision_model\.)", r"\1.vision_model.")
    ]

    @classmethod
    def published_names(cls, stored: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
        return layouts.PAPER.renamed(stored) if layouts.is_original(stored) else stored

    def fit_vocabulary(self) -> None:
        """Rows for the placeholders: the original marks the places of pictures outside its vocabulary."""
        wanted = max(self.config.image_token_index, self.config.video_token_index) + 1
        vocabulary: list[Any] = [self.get_input_embeddings(), self.get_output_embeddings()]
        tables = [module.weight for module in vocabulary if module is not None]
        if len(tables[0]) >= wanted:
            return
        if any(table.is_meta for table in tables):
            raise ValueError(
                "the vocabulary of this checkpoint lacks the rows of the placeholders and was left on disk: give the "
                "language model another place, or write a complete checkpoint first with `onlooker convert`"
            )
        self.resize_token_embeddings(wanted, pad_to_multiple_of=64)

    def dtype_policy(self, name: str, device: torch.device) -> torch.dtype | dict[str, torch.dtype]:
        """As for every model; "reference" is bfloat16, in which all parts were trained together."""
        return torch.bfloat16 if name == "reference" else super().dtype_policy(name, device)


class _Seen(NamedTuple):
    """The visual tokens of all pictures, or of all clips, of a batch."""

    marker: str
    token_id: int
    features: Tensor | None  # [pictures or frames, tokens of each, D]
    counts: list[int]  # tokens of each picture or clip


class VideoLlavaModel(VideoLlavaPreTrainedModel, nn.Module):
    """Towers, projector and language model, without a head."""

    base_model_prefix = "model"
    disk_names = RenameTable(
        [("language_model.model.{rest:.+}", "language_model.{rest}"), ("language_model.lm_head.{rest:.+}", None)]
    )

    def __init__(self, config: VideoLlavaConfig) -> None:
        super().__init__()
        self.config = config
        self.video_tower = CLIPVisionTower(config.vision_config, config.video_time_frames)
        self.image_tower = CLIPVisionTower(config.vision_config)
        self.multi_modal_projector = MultiModalProjector(
            config.vision_config.hidden_size * len(config.feature_layers),
            config.text_config.hidden_size,
            config.projector_hidden_act,
            config.multimodal_projector_bias,
        )
        init_normal(self.multi_modal_projector, config.initializer_range)
        self.language_model = LlamaDecoder(config.text_config)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.embed_tokens

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.language_model.embed_tokens = module  # type: ignore[assignment]

    def get_output_embeddings(self) -> None:
        """There is no head here."""

    def get_decoder(self) -> nn.Module:
        return self.language_model

    # -- visual tokens ---------------------------------------------------------------------------------------------

    def get_image_features(
        self,
        pixel_values_images: Tensor,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
    ) -> Tensor:
        """Pictures [n, 3, h, w] -> visual tokens [n, P, D], or [n, 1 + P, D] with strategy "full".

        Raises:
            ValueError: an unknown strategy, a layer that does not exist, or another picture size.
        """
        strategy = vision_feature_select_strategy or self.config.vision_feature_select_strategy
        if strategy not in ("default", "full"):
            raise ValueError(f"vision_feature_select_strategy is {strategy!r}; it may be 'default' or 'full'")
        if pixel_values_images.dim() != 4:
            raise ValueError(f"pixel_values_images has shape {tuple(pixel_values_images.shape)}; wanted [n, 3, h, w]")
        states = self.image_tower.states(pixel_values_images, self._layers(vision_feature_layer))
        if strategy == "default":
            states = [state[:, 1:] for state in states]
        return self.multi_modal_projector(torch.cat(states, dim=-1))

    def get_video_features(
        self, pixel_values_videos: Clips, vision_feature_layer: int | list[int] | None = None
    ) -> tuple[Tensor, int | list[int]]:
        """Clips -> visual tokens of every frame, class token included.

        Args:
            pixel_values_videos: [n, F, 3, h, w], or a list of [F_i, 3, h, w].

        Returns:
            [frames in all, 1 + P, D], and F (a list of F_i for a list).

        Raises:
            ValueError: another shape, or frames that a tower with attention over time was not trained with.
        """
        frames = frame_counts(pixel_values_videos)
        wanted = self.config.video_time_frames
        for number, count in enumerate(frames):
            if wanted and count != wanted:
                raise ValueError(
                    f"clip {number} has {count} frames; this checkpoint attends over time between exactly {wanted}. "
                    f"Give num_frames={wanted}."
                )
        flat = torch.cat(list(pixel_values_videos))  # [n * F, 3, h, w]
        states = self.video_tower.states(flat, self._layers(vision_feature_layer))
        tokens = self.multi_modal_projector(torch.cat(states, dim=-1))
        return tokens, frames[0] if isinstance(pixel_values_videos, Tensor) and frames else frames

    def _layers(self, vision_feature_layer: int | list[int] | None) -> list[int]:
        if vision_feature_layer is None:
            return self.config.feature_layers
        return [vision_feature_layer] if isinstance(vision_feature_layer, int) else list(vision_feature_layer)

    def merge(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        pixel_values_images: Tensor | None,
        pixel_values_videos: Clips | None,
        vision_feature_layer: int | list[int] | None = None,
        vision_feature_select_strategy: str | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Put visual tokens among the prompts' embeddings.

        Returns:
            Embeddings [B, T, D], mask [B, T] or None, and the visual tokens of pictures and of clips.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or placeholders that do not fit the pictures.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        images = videos = None
        image_counts: list[int] = []
        video_counts: list[int] = []
        if pixel_values_images is not None:
            images = self.get_image_features(pixel_values_images, vision_feature_layer, vision_feature_select_strategy)
            image_counts = [images.shape[1]] * len(images)
        if pixel_values_videos is not None:
            videos, _ = self.get_video_features(pixel_values_videos, vision_feature_layer)
            video_counts = [count * videos.shape[1] for count in frame_counts(pixel_values_videos)]
        seen = [
            _Seen("<image>", self.config.image_token_index, images, image_counts),
            _Seen("<video>", self.config.video_token_index, videos, video_counts),
        ]
        if input_ids is None:  # embeddings may hold features already: what no pixels came for is not looked for
            seen = [each for each in seen if each.features is not None]
        embeds, attention_mask = self._place(embeds, input_ids, attention_mask, seen)
        return embeds, attention_mask, images, videos

    def _place(
        self, embeds: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None, seen: list[_Seen]
    ) -> tuple[Tensor, Tensor | None]:
        """Features over their placeholders, or in front of a prompt that keeps no place at all."""
        places = [self._places(embeds, input_ids, each.token_id) for each in seen]
        blocks = [
            embeds.new_zeros(0, embeds.shape[-1])
            if each.features is None
            else each.features.flatten(0, 1).to(embeds.device)
            for each in seen
        ]
        is_bare = not embeds.is_meta and not any(bool(found.any()) for found in places)
        if not is_bare or any(each.counts and len(each.counts) != len(embeds) for each in seen):
            for each, found, block in zip(seen, places, blocks):
                embeds = scatter_in_order(embeds, found, block, each.counts, each.marker)
            return embeds, attention_mask
        in_front = [(each, block) for each, block in zip(seen, blocks) if each.counts]
        if in_front:
            markers = " and ".join(each.marker for each, _ in in_front)
            warnings.warn(
                f"the prompt keeps no place for the picture or clip: its features are put in front of the text. "
                f"Write {markers} where it belongs, and let the processor expand it.",
                stacklevel=4,
            )
        for each, block in in_front:
            if attention_mask is None:
                attention_mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
            embeds, attention_mask = prepend(embeds, attention_mask, block, each.counts)
        return embeds, attention_mask

    def _places(self, embeds: Tensor, input_ids: Tensor | None, token_id: int) -> Tensor:
        """Where the placeholders are, [B, T]."""
        if input_ids is not None:
            return input_ids.to(embeds.device) == token_id
        token = self.get_input_embeddings()(torch.tensor([token_id], device=embeds.device))
        return (embeds == token.to(embeds.device)).all(-1)

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(
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
        use_cache: bool | None = None,
        cache_position: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VideoLlavaModelOutputWithPast | tuple:
        """Features of every position.

        Args:
            input_ids: [B, T], with placeholders as a processor writes them; or inputs_embeds [B, T, D].
            pixel_values_images: [n, 3, h, w]; pixel_values_videos: [n, F, 3, h, w] or a list of [F_i, 3, h, w]. In
                the order in which their placeholders appear in the batch.
            attention_mask: [B, S], 1 = attended, over what the cache holds and the new tokens.
            cache_position: accepted and without effect: the cache knows where it ends.

        Raises:
            ValueError: inputs that do not fit each other.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        embeds, mask, images, videos = self.merge(
            input_ids,
            inputs_embeds,
            attention_mask,
            pixel_values_images,
            pixel_values_videos,
            vision_feature_layer,
            vision_feature_select_strategy,
        )
        cache = new_cache(self.config.text_config, past_key_values, use_cache, self.training)
        states = run_decoder(self.language_model, embeds, mask, position_ids, cache, need_weights, keep_states)
        output = VideoLlavaModelOutputWithPast(
            states.last_hidden_state, cache, states.hidden_states, states.attentions, images, videos
        )
        return output if as_record else output.to_tuple()


def frame_counts(clips: Clips) -> list[int]:
    """Frames of each clip.

    Raises:
        ValueError: neither [n, F, 3, h, w] nor a list of [F, 3, h, w].
    """
    for clip in clips:
        if clip.dim() != 4 or not len(clip):
            raise ValueError(
                f"a clip has shape {tuple(clip.shape)}; pixel_values_videos is [n, frames, 3, h, w], or a list of "
                f"[frames, 3, h, w] when clips differ in length"
            )
    return [len(clip) for clip in clips]
