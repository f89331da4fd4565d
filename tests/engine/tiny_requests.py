"""Tiny language models and random requests for them."""

from __future__ import annotations

import functools
import random
from typing import Any

import torch

from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
from onlooker.models.generation import Prompt
from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration
from tests.tiny import VOCAB, llama_config, opt_config, randomize, t5_config

FAMILIES = ("opt", "t5", "llama")


@functools.lru_cache(None)
def tiny(family: str, seed: int = 5) -> Any:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    if family == "opt":
        model: Any = OPTForCausalLM(OPTConfig(**opt_config(rng)))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**llama_config(rng)))
    else:
        model = T5ForConditionalGeneration(T5Config(**t5_config(rng)))
    randomize(model, seed)
    return model.eval()


def width(model: Any) -> int:
    return model.get_input_embeddings().weight.shape[1]


def prompt(model: Any, words: int, media: int = 0, seed: int = 0, pads: int = 0) -> Prompt:
    """Random embeddings in the place of a picture or a clip, then random words, and pads in front of them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, VOCAB, (1, words), generator=generator)
    seen = torch.randn(1, media, width(model), generator=generator)
    with torch.no_grad():
        embeds = model.get_input_embeddings()(ids)
    embeds = torch.cat([torch.zeros(1, pads, embeds.shape[2]), seen, embeds], dim=1)
    mask = (torch.arange(embeds.shape[1]) >= pads).long()[None]
    return Prompt(embeds, mask, ids)


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "min_new_tokens": 2},
    "sample": {"do_sample": True, "top_k": 12, "temperature": 1.3},
    "nucleus": {"do_sample": True, "top_p": 0.8, "top_k": 0},
    "several": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "early_stopping": True},
    "best beams": {"num_beams": 2, "num_return_sequences": 2, "length_penalty": 0.3},
    "beam samples": {"num_beams": 2, "do_sample": True},
}


def options(way: str, seed: int, max_new_tokens: int) -> dict[str, Any]:
    """As `submit` and `write` take them, with a new generator each time."""
    found = {"max_new_tokens": max_new_tokens, "eos_token_id": [3, 9], "pad_token_id": 1, **WAYS[way]}
    if found.get("do_sample"):
        found["generator"] = torch.Generator().manual_seed(seed)
    return found


@torch.no_grad()
def alone(model: Any, request: Prompt, way: str, seed: int, max_new_tokens: int) -> Any:
    """What generate() gives for one prompt by itself."""
    return model.write(request, None, options(way, seed, max_new_tokens))
