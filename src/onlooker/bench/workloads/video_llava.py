"""Video-LLaVA from pixel values to words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from onlooker.bench.contest import Contest
from onlooker.bench.peer import both, random_words
from onlooker.bench.settings import PLACEHOLDER, Settings
from onlooker.bench.writing import answering
from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration

FRAMES, WORDS, TOKENS = 8, 26, 32
#: vision and language model both: most of the time goes into 2,082 positions and 2,056 patches
ROUNDED = {"language": "int8", "vision": "int8"}


def video_llava(settings: Settings, image_token: int, video_token: int) -> dict[str, Any]:
    """The configuration. Features are those of the last vision layer, for both libraries run all layers then: of few
    layers, the last that nobody reads (which only we leave out) would count for too much.
    """
    return {
        "vision_config": settings.clip(),
        "text_config": settings.llama(),
        "image_token_index": image_token,
        "video_token_index": video_token,
        "vision_feature_layer": -1,
    }


def contests(settings: Settings) -> Iterator[Contest]:
    wanted = {"int8": ROUNDED} if "video-llava-int8" in settings.rows else {}
    config = video_llava(settings, PLACEHOLDER - 1, PLACEHOLDER)
    with both(VideoLlavaForConditionalGeneration, config, torch.bfloat16, wanted) as peers:
        words = random_words(WORDS, settings.words(32000))
        places = torch.full((1, FRAMES * settings.patches), PLACEHOLDER)
        ids = torch.cat([words[:, :8], places, words[:, 8:]], 1)
        size = settings.image_size
        pixels = torch.randn(1, FRAMES, 3, size, size, generator=torch.Generator().manual_seed(0))
        batch = {
            "pixel_values_videos": pixels.bfloat16(),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        theirs = answering(peers.theirs, batch, TOKENS, exact=peers.exact)
        sides = {f"video-llava-{name or 'bf16'}": answering(model, batch, TOKENS) for name, model in peers.ours.items()}
        shape = f"{FRAMES} frames, {ids.shape[1]} + {TOKENS} tokens, {settings.told('LLaMA', 'CLIP')}"
        yield Contest(
            shape, {row: (side, theirs) for row, side in sides.items() if row in settings.rows}, torch.bfloat16
        )
