"""Shapes of the vision transformers."""

from __future__ import annotations

from typing import ClassVar

from onlooker.config import Config


class Blip2VisionConfig(Config):
    """Shape of the EVA ViT tower; the defaults are the ViT-g/14 of BLIP-2.

    Raises:
        ValueError: hidden_size is not a multiple of num_attention_heads.
    """

    model_type: ClassVar[str] = "blip_2_vision_model"
    config_section: ClassVar[str] = "vision_config"

    hidden_size: int = 1408  # D
    intermediate_size: int = 6144
    num_hidden_layers: int = 39
    num_attention_heads: int = 16  # H; head_dim is D / H
    image_size: int = 224  # pixels, square
    patch_size: int = 14
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    initializer_range: float = 1e-10
    qkv_bias: bool = True

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")


class CLIPVisionConfig(Config):
    """Shape of the CLIP ViT; the defaults are ViT-B/32's.

    Raises:
        ValueError: hidden_size is not a multiple of num_attention_heads.
    """

    model_type: ClassVar[str] = "clip_vision_model"
    config_section: ClassVar[str] = "vision_config"

    hidden_size: int = 768  # D
    intermediate_size: int = 3072
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12  # H
    num_channels: int = 3
    image_size: int = 224  # pixels, square
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
