"""Decode of models so small that the time goes into starting operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from onlooker.bench.contest import Contest
from onlooker.bench.peer import both, random_words
from onlooker.bench.settings import Settings
from onlooker.bench.writing import answering
from onlooker.models.language import TEXT_MODELS

PROMPT, TOKENS, LAYERS, VOCABULARY = 48, 32, 6, 400
_SHAPES: dict[str, dict[str, Any]] = {
    "opt": {"hidden_size": 64, "word_embed_proj_dim": 64, "num_attention_heads": 4, "ffn_dim": 128},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "decoder_start_token_id": 0},
    "llama": {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 176},
}


def contests(settings: Settings) -> Iterator[Contest]:
    layers = 2 if settings.is_tiny else LAYERS
    for name, values in _SHAPES.items():
        if f"tiny-{name}" not in settings.rows:
            continue
        depth = {"num_layers": layers, "num_decoder_layers": layers} if name == "t5" else {"num_hidden_layers": layers}
        config = {**values, **depth, "vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 2}
        with both(TEXT_MODELS[name], config | {"eos_token_id": None}, torch.float32) as peers:
            ids = random_words(PROMPT, VOCABULARY)
            batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            ours, theirs = (
                answering(model, batch, TOKENS, decode_only=True) for model in (peers.ours[""], peers.theirs)
            )
            shape = f"{TOKENS} tokens behind {PROMPT}, without those, 64 wide, {layers} layers"
            yield Contest(shape, {f"tiny-{name}": (ours, theirs)}, torch.float32)
