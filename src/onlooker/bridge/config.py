"""Shape of the Q-Former."""

from __future__ import annotations

from typing import ClassVar

from onlooker.config import Config

POSITION_EMBEDDING_TYPES = ("absolute", "relative_key", "relative_key_query")


class Blip2QFormerConfig(Config):
    """Shape of the Querying Transformer; the defaults are BLIP-2's.

    Raises:
        ValueError: hidden_size is not a multiple of num_attention_heads, or an unknown position_embedding_type.
    """

    model_type: ClassVar[str] = "blip_2_qformer"
    config_section: ClassVar[str] = "qformer_config"

    vocab_size: int = 30522
    hidden_size: int = 768  # D
    num_hidden_layers: int = 12
    num_attention_heads: int = 12  # H
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    position_embedding_type: str = "absolute"
    cross_attention_frequency: int = 2  # layers with index % frequency == 0 look at the picture
    encoder_hidden_size: int = 1408  # width of the vision features
    use_qformer_text_input: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")
        if self.position_embedding_type not in POSITION_EMBEDDING_TYPES:
            raise ValueError(
                f"position_embedding_type is {self.position_embedding_type!r}; "
                f"it may be {', '.join(POSITION_EMBEDDING_TYPES)}"
            )
