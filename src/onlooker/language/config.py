"""Shapes of the language models."""

from __future__ import annotations

from typing import Any, ClassVar

from onlooker.config import Config


class OPTConfig(Config):
    """Shape of OPT; the defaults are the 125M model's.

    Raises:
        ValueError: hidden_size is not a multiple of num_attention_heads.
    """

    model_type: ClassVar[str] = "opt"
    config_section: ClassVar[str] = "text_config"

    vocab_size: int = 50272
    hidden_size: int = 768  # D
    num_hidden_layers: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False
    word_embed_proj_dim: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: int = 12  # H
    activation_function: str = "relu"
    layerdrop: float = 0.0
    init_std: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True

    def __post_init__(self) -> None:
        if self.word_embed_proj_dim is None:
            self.word_embed_proj_dim = self.hidden_size
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads")


class T5Config(Config):
    """Shape of T5; the defaults are t5-small's.

    `feed_forward_proj` is "<activation>" or "gated-<activation>" and sets `is_gated_act` and `dense_act_fn`.
    "gated-gelu" means the tanh form unless `dense_act_fn` is given too: the Flan-T5 based checkpoints give "gelu".

    Raises:
        ValueError: another form of feed_forward_proj.
    """

    model_type: ClassVar[str] = "t5"
    config_section: ClassVar[str] = "text_config"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }

    vocab_size: int = 32128
    d_model: int = 512  # D
    d_kv: int = 64  # K
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8  # H
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    is_encoder_decoder: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = None
    classifier_dropout: float = 0.0
    dense_act_fn: str | None = None
    is_gated_act: bool | None = None

    def __post_init__(self) -> None:
        if self.num_decoder_layers is None:
            self.num_decoder_layers = self.num_layers
        first, _, second = self.feed_forward_proj.partition("-")
        if not first or (second and first != "gated") or first == "gated" and not second or "-" in second:
            raise ValueError(
                f"feed_forward_proj is {self.feed_forward_proj!r}; wanted '<activation>' or 'gated-<activation>'"
            )
        self.is_gated_act = bool(second)
        if self.dense_act_fn is None:
            self.dense_act_fn = "gelu_new" if self.feed_forward_proj == "gated-gelu" else (second or first)


class LlamaConfig(Config):
    """Shape of LLaMA; the defaults are the 7B model's.

    `rope_scaling` stretches the positions (see `onlooker.nn.rotary`); newer files hold it, and rope_theta, under
    `rope_parameters`.

    Raises:
        ValueError: heads that do not divide.
    """

    model_type: ClassVar[str] = "llama"
    config_section: ClassVar[str] = "text_config"

    vocab_size: int = 32000
    hidden_size: int = 4096  # D
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32  # H
    num_key_value_heads: int = None  # type: ignore[assignment]  # as many as heads
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pretraining_tp: int = 1
    tie_word_embeddings: bool = False
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    head_dim: int = None  # type: ignore[assignment]  # K, hidden_size / heads

    def __post_init__(self) -> None:
        newer = self.__dict__.pop("rope_parameters", None)
        if newer:
            self.rope_theta = newer.get("rope_theta", self.rope_theta)
            if newer.get("rope_type", "default") != "default":
                self.rope_scaling = {name: value for name, value in newer.items() if name != "rope_theta"}
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads"
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key and value heads evenly"
            )


class ForeignConfig(Config):
    """A language model that this package does not write itself: every key as the file has it."""

    config_section: ClassVar[str] = "text_config"
    model_type: str = ""  # type: ignore[misc]  # of the instance here: it names the other library's class

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        model_type = kwargs.pop("model_type", "")
        super().__init__(*args, **kwargs)
        self.model_type = model_type
