"""Configuration of BLIP-2: a vision tower, a Q-Former and a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.config import Config
from onlooker.vision.config import Blip2VisionConfig

if TYPE_CHECKING:
    from typing_extensions import Self


def section(cls: type[Config], values: Config | dict[str, Any] | None) -> Config:
    """A part's configuration from a dictionary or another configuration, copied."""
    return cls.from_dict(values.to_dict() if hasattr(values, "to_dict") else values or {})  # type: ignore[union-attr]


class FromParts:
    """Composites that are made from the configurations of their three parts."""

    @classmethod
    def from_vision_qformer_text_configs(
        cls, vision_config: Config, qformer_config: Config, text_config: Config | None = None, **kwargs: Any
    ) -> Self:
        """The composite of three configurations; more keywords reach the constructor."""
        return cls(vision_config=vision_config, qformer_config=qformer_config, text_config=text_config, **kwargs)  # type: ignore[call-arg]

    @classmethod
    def from_text_vision_configs(
        cls, vision_config: Config, qformer_config: Config, text_config: Config | None = None, **kwargs: Any
    ) -> Self:
        """Another name of `from_vision_qformer_text_configs`, with the same order of arguments."""
        return cls.from_vision_qformer_text_configs(vision_config, qformer_config, text_config, **kwargs)


class Blip2Config(FromParts, Config):
    """Configuration of the BLIP-2 classes.

    Args:
        vision_config, qformer_config, text_config: dictionaries or configurations, copied; None takes the defaults
            (text: OPT). The Q-Former's encoder_hidden_size always becomes the vision tower's hidden_size.
        num_query_tokens: features that a picture becomes.
        image_text_hidden_size: width of the retrieval embeddings.
        image_token_index: the placeholder token, also readable and settable as image_token_id; None in old files.

    Raises:
        ValueError: a text model that is neither written here nor available from transformers.
    """

    model_type: ClassVar[str] = "blip-2"
    attribute_map: ClassVar[dict[str, str]] = {"image_token_id": "image_token_index"}

    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    num_query_tokens: int = 32
    image_text_hidden_size: int = 256
    image_token_index: int | None = None
    initializer_factor: float = 1.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        from onlooker.language.choose import text_config

        self.vision_config = section(Blip2VisionConfig, self.vision_config)
        self.qformer_config = section(Blip2QFormerConfig, self.qformer_config)
        self.text_config = text_config(self.text_config)
        self.qformer_config.encoder_hidden_size = self.vision_config.hidden_size
        self.is_encoder_decoder = self.text_config.is_encoder_decoder
        self.use_decoder_only_language_model = not self.text_config.is_encoder_decoder
