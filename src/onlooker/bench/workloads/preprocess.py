"""Frames of 1080p to pixel values."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onlooker.bench.contest import Contest, Side
from onlooker.bench.peer import transformers
from onlooker.bench.settings import Settings
from onlooker.pixels.video_llava import VideoLlavaVideoProcessor


def frames(settings: Settings) -> np.ndarray:
    """uint8 [8, h, w, 3]: soft shapes with grain, moved from frame to frame."""
    height, width = (90, 160) if settings.is_tiny else (1080, 1920)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (20 + 9 * color)) + np.cos(y / (30 + 7 * color)) for color in range(3)]
    picture = 128 + 50 * np.stack(waves, -1) + rng.normal(0, 6, (height, width, 3))
    picture = picture.clip(0, 255).astype(np.uint8)
    return np.stack([np.roll(picture, width // 48 * number, axis=1) for number in range(8)])


def contests(settings: Settings) -> Iterator[Contest]:
    clip = frames(settings)
    theirs, told = _theirs(clip)
    ours = Side(partial(_ours, VideoLlavaVideoProcessor(), clip))
    shape = f"8 frames of {clip.shape[2]} x {clip.shape[1]} to 224 x 224 (Video-LLaVA), {told}"
    # Both work in steps of 1/255; bfloat16 stands for what those are worth.
    yield Contest(shape, {"preprocess": (ours, theirs)}, torch.bfloat16)


def _ours(processor: Any, clip: np.ndarray) -> Tensor:
    return processor(clip, return_tensors="pt")["pixel_values_videos"]


def _theirs(clip: np.ndarray) -> tuple[Side, str]:
    """Their video processor; without torchvision the one for pictures, which then is all that they have."""
    library = transformers()
    try:
        processor = library.VideoLlavaVideoProcessor()
        return Side(lambda: processor(clip, return_tensors="pt")["pixel_values_videos"]), "their video processor"
    except ImportError:
        pictures = library.VideoLlavaImageProcessor()
        given = list(clip)
        # Said, because a toy could be read either way.
        options = {"input_data_format": "channels_last", "return_tensors": "pt"}
        side = Side(lambda: pictures(None, videos=[given], **options)["pixel_values_videos"])
        return side, "their picture processor (no torchvision)"
