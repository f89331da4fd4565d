"""The processor for the original Video-LLaVA, over the tokenizer of its folder, which has no other processor file."""

from __future__ import annotations

import os
from typing import Any

from tokenizers import AddedToken

from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import VideoLlavaImageProcessor, VideoLlavaVideoProcessor
from onlooker.text import Tokenizer
from onlooker.text.chat import VICUNA_PAPER

_TOKENS = ("<image>", "<video>", "<pad>")


def paper_processor(
    name_or_path: str | os.PathLike[str], *, size: int = 224, patch_size: int = 14, **hub: Any
) -> VideoLlavaProcessor:
    """The preprocessing and the conversation of the paper, with the original tokenizer.

    The placeholders, and a token to pad with, come behind its vocabulary in the order of the published -hf checkpoint.

    Args:
        size: pixels of a picture's side, as the towers take it.

    Raises:
        ModelNotFoundError: no such model, or it has no tokenizer.
    """
    tokenizer = Tokenizer.from_pretrained(name_or_path, padding_side="left", **hub)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in _TOKENS], special_tokens=True)
    tokenizer.pad_token = _TOKENS[-1]
    options: dict[str, Any] = {"size": size, "crop_size": size, "preprocessing": "paper"}
    return VideoLlavaProcessor(
        VideoLlavaImageProcessor(**options),
        VideoLlavaVideoProcessor(**options),
        tokenizer,
        patch_size=patch_size,
        chat_template=VICUNA_PAPER,
    )
