"""Random tiny configurations and models, as dictionaries that both this package and the reference take."""

from __future__ import annotations

import random
from typing import Any

import torch

IMAGE_TOKEN = 38
VIDEO_TOKEN = 39
VOCAB = 40


def vision_config(rng: random.Random) -> dict[str, Any]:
    heads = rng.choice([1, 2, 4])
    return {
        "hidden_size": heads * rng.choice([4, 8]),
        "intermediate_size": rng.choice([16, 24]),
        "num_hidden_layers": rng.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "patch_size": rng.choice([4, 5]),
        "image_size": 20,
        "hidden_act": rng.choice(["gelu", "relu", "gelu_new"]),
        "layer_norm_eps": rng.choice([1e-6, 1e-5]),
        "initializer_range": 0.5,
        "qkv_bias": rng.choice([True, True, False]),
    }


def qformer_config(rng: random.Random, **overrides: Any) -> dict[str, Any]:
    heads = rng.choice([1, 2, 4])
    values = {
        "vocab_size": VOCAB,
        "hidden_size": heads * rng.choice([4, 8]),
        "num_hidden_layers": rng.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "intermediate_size": rng.choice([16, 24]),
        "hidden_act": rng.choice(["gelu", "relu"]),
        "max_position_embeddings": 48,
        "initializer_range": 0.5,
        "cross_attention_frequency": rng.choice([1, 2]),
        "position_embedding_type": rng.choice(["absolute", "absolute", "relative_key", "relative_key_query"]),
        "use_qformer_text_input": rng.choice([True, False]),
    }
    return values | overrides


def opt_config(rng: random.Random, **overrides: Any) -> dict[str, Any]:
    heads = rng.choice([1, 2, 4])
    before = rng.choice([True, True, False])
    values = {
        "model_type": "opt",
        "vocab_size": VOCAB,
        "hidden_size": heads * rng.choice([4, 8]),
        "ffn_dim": rng.choice([16, 24]),
        "num_hidden_layers": rng.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "max_position_embeddings": 80,
        "do_layer_norm_before": before,
        "enable_bias": rng.choice([True, False]),
        "init_std": 0.5,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 1,
    }
    values |= overrides
    values.setdefault("word_embed_proj_dim", values["hidden_size"])
    return values


def t5_config(rng: random.Random, **overrides: Any) -> dict[str, Any]:
    gated = rng.choice([True, False])
    values = {
        "model_type": "t5",
        "vocab_size": VOCAB,
        "d_model": rng.choice([16, 24]),
        "d_kv": rng.choice([4, 8]),
        "d_ff": rng.choice([16, 24]),
        "num_layers": 2,
        "num_decoder_layers": rng.choice([1, 2]),  # the reference cannot generate with more than num_layers
        "num_heads": rng.choice([1, 2, 4]),
        "relative_attention_num_buckets": rng.choice([8, 32]),
        "relative_attention_max_distance": rng.choice([20, 128]),
        "feed_forward_proj": "gated-gelu" if gated else rng.choice(["relu", "gelu"]),
        "tie_word_embeddings": rng.choice([True, False]),
        "decoder_start_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    if gated and rng.random() < 0.5:
        values["dense_act_fn"] = "gelu"
    return values | overrides


def llama_config(rng: random.Random, **overrides: Any) -> dict[str, Any]:
    kv_heads, groups = rng.choice([1, 2]), rng.choice([1, 2, 3])
    heads = kv_heads * groups
    values = {
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": heads * rng.choice([4, 8]),
        "intermediate_size": rng.choice([16, 24]),
        "num_hidden_layers": rng.choice([1, 2, 3]),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 64,
        "rms_norm_eps": rng.choice([1e-6, 1e-5]),
        "rope_theta": rng.choice([10000.0, 500.0]),
        "attention_bias": rng.choice([True, False]),
        "mlp_bias": rng.choice([True, False]),
        "initializer_range": 0.5,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 1,
    }
    return values | overrides


TEXTS = {"opt": opt_config, "t5": t5_config, "llama": llama_config}


def blip2_config(seed: int, text: str | None = None, **overrides: Any) -> dict[str, Any]:
    """The dictionary of a whole BLIP-2; `text` is a key of TEXTS, "opt" or "t5" when not given."""
    rng = random.Random(seed)
    text = text or rng.choice(["opt", "t5"])
    values = {
        "vision_config": vision_config(rng),
        "qformer_config": qformer_config(rng),
        "text_config": TEXTS[text](rng),
        "num_query_tokens": rng.choice([1, 3, 5]),
        "image_text_hidden_size": rng.choice([8, 12]),
        "image_token_index": IMAGE_TOKEN,
    }
    return values | overrides


def clip_config(rng: random.Random, **overrides: Any) -> dict[str, Any]:
    heads = rng.choice([1, 2, 4])
    values = {
        "model_type": "clip_vision_model",
        "hidden_size": heads * rng.choice([4, 8]),
        "intermediate_size": rng.choice([16, 24]),
        "num_hidden_layers": rng.choice([2, 3]),
        "num_attention_heads": heads,
        "patch_size": 10,
        "image_size": 20,
        "hidden_act": rng.choice(["quick_gelu", "gelu"]),
    }
    return values | overrides


def video_llava_config(seed: int, **overrides: Any) -> dict[str, Any]:
    """The dictionary of a whole Video-LLaVA, with its placeholders inside the small vocabulary."""
    rng = random.Random(seed)
    layers = rng.choice([-2, -1, 1, [-2, -1], [0, 2, -1]])
    values = {
        "vision_config": clip_config(rng),
        "text_config": llama_config(rng, max_position_embeddings=256),
        "image_token_index": IMAGE_TOKEN,
        "video_token_index": VIDEO_TOKEN,
        "projector_hidden_act": rng.choice(["gelu", "relu"]),
        "vision_feature_select_strategy": rng.choice(["default", "full"]),
        "vision_feature_layer": layers,
        "multimodal_projector_bias": rng.choice([True, False]),
    }
    return values | overrides


def clips(count: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, frames, 3, 20, 20, generator=torch.Generator().manual_seed(seed))


def randomize(module: torch.nn.Module, seed: int, std: float = 0.3) -> None:
    """Weights far from their initial zeros, so that every part shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * std
            is_scale = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1 + noise if is_scale else noise)


def pixels(count: int, seed: int = 0, height: int = 20, width: int = 20) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def prompt(config: Any, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Ids [rows, placeholders + length] of ordinary words behind the placeholders."""
    words = torch.randint(4, IMAGE_TOKEN, (rows, length), generator=torch.Generator().manual_seed(seed))
    places = torch.full((rows, config.num_query_tokens), config.image_token_index)
    return torch.cat([places, words], dim=1)
