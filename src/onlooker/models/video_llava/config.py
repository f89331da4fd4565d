"""Configuration of Video-LLaVA: two vision towers of one shape, a projector and a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from onlooker.config import Config
from onlooker.language.config import LlamaConfig
from onlooker.models.video_llava.original import ORIGINAL, translated
from onlooker.vision.config import CLIPVisionConfig

if TYPE_CHECKING:
    from typing_extensions import Self

#: ViT-L/14 at 224 pixels
TOWER = {
    "intermediate_size": 4096,
    "hidden_size": 1024,
    "patch_size": 14,
    "image_size": 224,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "vocab_size": 32000,
    "projection_dim": 768,
}


class VideoLlavaConfig(Config):
    """Configuration of the Video-LLaVA classes.

    Args:
        vision_config, text_config: dictionaries or configurations, copied; None takes CLIP ViT-L/14 and LLaMA-7B.
        image_token_index, video_token_index: the placeholder tokens, also image_token_id and video_token_id.
        projector_hidden_act: activation between the projector's two layers.
        vision_feature_select_strategy: for pictures, "default" drops the class token and "full" keeps it; clips
            always keep it.
        vision_feature_layer: the hidden state that is projected, or a list whose states are joined.
        video_time_frames: None for the published -hf checkpoint, whose video tower sees every frame by itself; the
            paper's model attends over time between this many frames (8).

    `from_dict` and `from_pretrained` also read the config.json of the original checkpoint, LanguageBind/Video-LLaVA-7B.

    Raises:
        ValueError: a language model other than LLaMA, another vision tower than CLIP, or an unknown strategy.
    """

    model_type: ClassVar[str] = "video_llava"
    compatible_model_types: ClassVar[tuple[str, ...]] = (ORIGINAL,)
    attribute_map: ClassVar[dict[str, str]] = {
        "image_token_id": "image_token_index",
        "video_token_id": "video_token_index",
    }

    vision_config: Any = None
    text_config: Any = None
    image_token_index: int = 32000
    video_token_index: int = 32001
    projector_hidden_act: str = "gelu"
    vision_feature_select_strategy: str = "default"
    vision_feature_layer: int | list[int] = -2
    image_seq_length: int = 256
    video_seq_length: int = 2056
    multimodal_projector_bias: bool = True
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    video_time_frames: int | None = None

    def __post_init__(self) -> None:
        if self.vision_feature_select_strategy not in ("default", "full"):
            raise ValueError(
                f"vision_feature_select_strategy is {self.vision_feature_select_strategy!r}; "
                f"it may be 'default' or 'full'"
            )
        self.vision_config = CLIPVisionConfig.from_dict(_values(self.vision_config, TOWER, CLIPVisionConfig))
        self.text_config = LlamaConfig.from_dict(_values(self.text_config, {}, LlamaConfig))

    @classmethod
    def from_dict(cls, values: dict[str, Any], **overrides: Any) -> Self:
        """
        Raises:
            CheckpointError: the original layout's model_type, but not of a Video-LLaVA.
        """
        if values.get("model_type") == ORIGINAL:
            values, overrides = translated({**values, **overrides}, TOWER, cls._field_names), {}
        return super().from_dict(values, **overrides)

    @property
    def feature_layers(self) -> list[int]:
        """vision_feature_layer as a list."""
        layers = self.vision_feature_layer
        return [layers] if isinstance(layers, int) else list(layers)


def _values(given: Any, default: dict[str, Any], cls: type[Config]) -> dict[str, Any]:
    values = given.to_dict() if hasattr(given, "to_dict") else default if given is None else given
    model_type = values.get("model_type", cls.model_type)
    if model_type != cls.model_type:
        raise ValueError(f"Video-LLaVA has a {cls.config_section} of type {cls.model_type!r} here, not {model_type!r}")
    return values
