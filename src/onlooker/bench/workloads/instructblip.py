"""InstructBLIPVideo from pixel values to words."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from onlooker.bench.contest import Contest
from onlooker.bench.peer import both, random_words
from onlooker.bench.settings import PLACEHOLDER, Settings
from onlooker.bench.writing import answering
from onlooker.models.instructblip.generation import InstructBlipVideoForConditionalGeneration

FRAMES, QUERIES, WORDS, INSTRUCTION, TOKENS = 4, 32, 32, 16, 32
_ROUNDED = {
    "int8": {"language": "int8", "vision": "int8", "qformer": "int8"},
    "int4": {"language": "int4", "vision": "int8", "qformer": "int8"},
}


def contests(settings: Settings) -> Iterator[Contest]:
    config = {
        "vision_config": settings.vit_g(),
        "qformer_config": settings.qformer(),
        "text_config": settings.llama(),
        "num_query_tokens": QUERIES,
        "video_token_index": PLACEHOLDER,
    }
    wanted = {name: kinds for name, kinds in _ROUNDED.items() if f"instructblip-{name}" in settings.rows}
    with both(InstructBlipVideoForConditionalGeneration, config, torch.bfloat16, wanted) as peers:
        places = torch.full((1, FRAMES * QUERIES), PLACEHOLDER)
        ids = torch.cat([places, random_words(WORDS, settings.words(32000))], 1)
        instruction = random_words(INSTRUCTION, 500)
        size = settings.image_size
        pixels = torch.randn(1, FRAMES, 3, size, size, generator=torch.Generator().manual_seed(0))
        batch = {
            "pixel_values": pixels.bfloat16(),
            "qformer_input_ids": instruction,
            "qformer_attention_mask": torch.ones_like(instruction),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        theirs = answering(peers.theirs, batch, TOKENS, exact=peers.exact)
        sides = {
            f"instructblip-{name or 'bf16'}": answering(model, batch, TOKENS) for name, model in peers.ours.items()
        }
        layers = settings.told("LLaMA", "ViT-g", "Q-Former")
        shape = f"{FRAMES} frames, {ids.shape[1]} + {TOKENS} tokens, {layers}"
        yield Contest(
            shape, {row: (side, theirs) for row, side in sides.items() if row in settings.rows}, torch.bfloat16
        )
