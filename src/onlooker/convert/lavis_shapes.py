"""The sizes of a LAVIS model's parts, from the shapes of their tensors: its files hold no configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from onlooker.weights.layouts.positions import grid_side
from onlooker.weights.reading import StoredTensor


def vision_sizes(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Fields of the vision configuration; heads cannot be seen, and are EVA ViT-g's 16."""
    stem = "vision_model."
    positions = stored[f"{stem}embeddings.position_embedding"].shape
    patch_size = stored[f"{stem}embeddings.patch_embedding.weight"].shape[-1]
    return {
        "hidden_size": positions[-1],
        "intermediate_size": stored[f"{stem}encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(_layers(stored, rf"{stem}encoder\.layers\.(\d+)\.")),
        "patch_size": patch_size,
        "image_size": grid_side(positions) * patch_size,
    }


def qformer_sizes(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """Fields of the Q-Former's configuration; heads cannot be seen, and are BERT's 12."""
    stem = r"qformer\.encoder\.layer\.(\d+)\."
    looking = _layers(stored, rf"{stem}crossattention\.")
    sizes: dict[str, Any] = {
        "hidden_size": stored["query_tokens"].shape[-1],
        "intermediate_size": stored["qformer.encoder.layer.0.intermediate_query.dense.weight"].shape[0],
        "num_hidden_layers": len(_layers(stored, stem)),
        "cross_attention_frequency": looking[1] - looking[0] if len(looking) > 1 else 2,
    }
    for prefix in ("qformer.embeddings.", "embeddings."):
        words = stored.get(f"{prefix}word_embeddings.weight")
        if words is not None:
            sizes["vocab_size"] = words.shape[0]
            sizes["max_position_embeddings"] = stored[f"{prefix}position_embeddings.weight"].shape[0]
    return sizes


def _layers(stored: Mapping[str, StoredTensor], pattern: str) -> list[int]:
    return sorted({int(found[1]) for name in stored if (found := re.match(pattern, name))})
