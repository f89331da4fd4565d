"""The language models as public classes, and what works alike for all of them."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from onlooker.config import Config
from onlooker.language.config import OPTConfig, T5Config
from onlooker.language.foreign import ForeignDecoding, foreign_model
from onlooker.language.opt import OPTLanguageModel
from onlooker.language.protocol import Decoding
from onlooker.language.t5 import T5LanguageModel
from onlooker.models.generation import TextGeneration
from onlooker.pretrained import PreTrainedModel

class OPTForCausalLM(TextGeneration, PreTrainedModel, OPTLanguageModel):
    """OPT with its language-model head."""

    config_class = OPTConfig
    base_model_prefix = "model"
    part_prefixes: ClassVar[tuple[str, ...]] = ("language_model.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("OPTLayer",)


class T5ForConditionalGeneration(TextGeneration, PreTrainedModel, T5LanguageModel):
    """T5 with its language-model head."""

    config_class = T5Config
    base_model_prefix = "transformer"
    part_prefixes: ClassVar[tuple[str, ...]] = ("language_model.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("T5Block",)


TEXT_MODELS: dict[str, type[nn.Module]] = {"opt": OPTForCausalLM, "t5": T5ForConditionalGeneration}


def language_model(config: Config) -> nn.Module:
    """Build the language model of a text configuration, with fresh weights."""
    factory = TEXT_MODELS.get(config.model_type)
    return factory(config) if factory else foreign_model(config)  # type: ignore[arg-type]


def begin(model: nn.Module, inputs_embeds: Any, attention_mask: Any, max_new_tokens: int, **options: Any) -> Decoding:
    """Run a prompt through any language model (see `CausalLM.begin` and `T5LanguageModel.begin`)."""
    if hasattr(model, "begin"):
        return model.begin(inputs_embeds, attention_mask, max_new_tokens, **options)  # type: ignore[operator]
    options.pop("use_cache", None)  # theirs always keeps one
    return ForeignDecoding(model, inputs_embeds, attention_mask, **options)


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
