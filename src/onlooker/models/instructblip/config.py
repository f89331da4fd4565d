"""Configurations of InstructBLIP, for pictures and for clips."""

from __future__ import annotations

from typing import Any, ClassVar

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.config import Config
from onlooker.models.blip2.config import FromParts, section
from onlooker.vision.config import Blip2VisionConfig


class InstructBlipVisionConfig(Blip2VisionConfig):
    """Shape of the vision tower, BLIP-2's."""

    model_type: ClassVar[str] = "instructblip_vision_model"


class InstructBlipVideoVisionConfig(Blip2VisionConfig):
    """Shape of the vision tower, BLIP-2's."""

    model_type: ClassVar[str] = "instructblipvideo_vision_model"
    compatible_model_types: ClassVar[tuple[str, ...]] = ("instructblip_vision_model",)


class InstructBlipQFormerConfig(Blip2QFormerConfig):
    """Shape of the Q-Former, BLIP-2's with text."""

    model_type: ClassVar[str] = "instructblip_qformer"
    use_qformer_text_input: bool = True


class InstructBlipVideoQFormerConfig(Blip2QFormerConfig):
    """Shape of the Q-Former, BLIP-2's with text."""

    model_type: ClassVar[str] = "instructblipvideo_qformer"
    compatible_model_types: ClassVar[tuple[str, ...]] = ("instructblip_qformer",)
    use_qformer_text_input: bool = True


class _InstructBlipConfig(FromParts, Config):
    """What both have: the three parts, and what follows from them."""

    vision_class: ClassVar[type[Config]]
    qformer_class: ClassVar[type[Config]]

    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    num_query_tokens: int = 32
    initializer_factor: float = 1.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        from onlooker.language.choose import text_config

        self.vision_config = section(self.vision_class, self.vision_config)
        self.qformer_config = section(self.qformer_class, self.qformer_config)
        self.text_config = text_config(self.text_config)
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size
        self.use_decoder_only_language_model = not self.text_config.is_encoder_decoder


class InstructBlipConfig(_InstructBlipConfig):
    """Configuration of the InstructBLIP classes for pictures (see `Blip2Config` for the arguments)."""

    model_type: ClassVar[str] = "instructblip"
    attribute_map: ClassVar[dict[str, str]] = {"image_token_id": "image_token_index"}
    vision_class = InstructBlipVisionConfig
    qformer_class = InstructBlipQFormerConfig

    image_token_index: int | None = None


class InstructBlipVideoConfig(_InstructBlipConfig):
    """Configuration of the InstructBLIP classes for clips (see `Blip2Config` for the arguments).

    The released checkpoints are for pictures: their image_token_index serves as video_token_index when that is absent.
    """

    model_type: ClassVar[str] = "instructblipvideo"
    compatible_model_types: ClassVar[tuple[str, ...]] = ("instructblip",)
    attribute_map: ClassVar[dict[str, str]] = {"video_token_id": "video_token_index"}
    vision_class = InstructBlipVideoVisionConfig
    qformer_class = InstructBlipVideoQFormerConfig

    video_token_index: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("image_token_index", "image_token_id"):
            if self.video_token_index is None:
                self.video_token_index = self.__dict__.get(name)
