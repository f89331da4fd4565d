"""The language models as public classes."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from onlooker.config import Config
from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
from onlooker.language.foreign import foreign_model
from onlooker.language.llama import LlamaLanguageModel
from onlooker.language.opt import OPTLanguageModel
from onlooker.language.t5 import T5LanguageModel
from onlooker.models.generation import TextGeneration
from onlooker.pretrained import PreTrainedModel


class LlamaForCausalLM(TextGeneration, PreTrainedModel, LlamaLanguageModel):
    """LLaMA with its language-model head."""

    config_class = LlamaConfig
    base_model_prefix = "model"
    part_prefixes: ClassVar[tuple[str, ...]] = ("language_model.",)
    _no_split_modules: ClassVar[tuple[str, ...]] = ("LlamaLayer",)


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


TEXT_MODELS: dict[str, type[nn.Module]] = {
    "llama": LlamaForCausalLM,
    "opt": OPTForCausalLM,
    "t5": T5ForConditionalGeneration,
}


def language_model(config: Config) -> nn.Module:
    """Build the language model of a text configuration, with fresh weights."""
    factory = TEXT_MODELS.get(config.model_type)
    return factory(config) if factory else foreign_model(config)  # type: ignore[arg-type]
