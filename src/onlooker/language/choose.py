"""One way to every language model, written here or borrowed: its configuration, its start, its ties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onlooker.config import Config
from onlooker.language.config import LlamaConfig, OPTConfig, T5Config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onlooker.language.protocol import Decoding

TEXT_CONFIGS: dict[str, type[Config]] = {"llama": LlamaConfig, "opt": OPTConfig, "t5": T5Config}


def text_config(values: Config | dict[str, Any] | None, default: str = "opt") -> Config:
    """The configuration of the language model: ours where we write it, else the other library's.

    Args:
        values: a dictionary, a configuration of ours or of transformers, or None for the default's defaults.
        default: model_type of a dictionary that has none.

    Raises:
        ValueError: a model_type that we do not write, without transformers installed.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()  # type: ignore[union-attr]
    values = dict(values or {})
    model_type = values.setdefault("model_type", default)
    if model_type in TEXT_CONFIGS:
        return TEXT_CONFIGS[model_type](**values)
    from onlooker.language.foreign import check_installed, foreign_config

    check_installed(model_type, list(TEXT_CONFIGS))
    return foreign_config(values)


def begin(
    model: nn.Module, inputs_embeds: Tensor | None, attention_mask: Tensor | None, max_new_tokens: int, **options: Any
) -> Decoding:
    """Run a prompt through any language model (see `CausalLM.begin` and `T5LanguageModel.begin`).

    Raises:
        ValueError: a prefix for a language model that is not written here.
    """
    if hasattr(model, "begin"):
        return model.begin(inputs_embeds, attention_mask, max_new_tokens, **options)  # type: ignore[operator]
    from onlooker.language.foreign import ForeignDecoding

    options.pop("use_cache", None)  # theirs always keeps one
    if inputs_embeds is None or options.pop("prefix", None) is not None:
        raise ValueError("language models of transformers cannot continue from a prefix: run their prompts as a whole")
    return ForeignDecoding(model, inputs_embeds, attention_mask, **options)


def cache_shape(config: Config, itemsize: int) -> tuple[int, int, int]:
    """Layers of a language model's cache, and bytes of one position of one row: of the decoder, and of the source.

    Args:
        config: of one of our own language models.
        itemsize: bytes of a number.
    """
    values: Any = config
    if config.model_type == "t5":
        layers = values.num_decoder_layers or values.num_layers
        width = 2 * layers * values.num_heads * values.d_kv
        return layers, width * itemsize, (width + values.d_model) * itemsize  # the encoder's output goes when it joins
    heads = getattr(values, "num_key_value_heads", None) or values.num_attention_heads
    width = getattr(values, "head_dim", None) or values.hidden_size // values.num_attention_heads
    return values.num_hidden_layers, 2 * values.num_hidden_layers * heads * width * itemsize, 0


def tied_weights(model: nn.Module) -> dict[str, str]:
    """Duplicate parameter -> the one that is kept, for any language model."""
    if hasattr(model, "tied_weights"):
        return model.tied_weights()  # type: ignore[operator]
    names: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first = names.setdefault(id(parameter), name)
        if first != name:
            ties[name] = first
    return ties
