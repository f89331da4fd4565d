"""The same tiny random BLIP-2 in this package and in transformers."""

from __future__ import annotations

from typing import Any

import torch
import transformers

import onlooker
from tests.tiny import blip2_config, randomize, video_llava_config


def pair(name: str, seed: int, **options: Any) -> tuple[Any, Any]:
    """Ours and theirs of class `name`, with equal weights; options as for `tiny.blip2_config`."""
    values = blip2_config(seed, **options)
    theirs_config = transformers.Blip2Config(**values, attn_implementation="eager")
    theirs = getattr(transformers, name)(theirs_config).eval()
    randomize(theirs, seed)
    without_cross_distances(theirs)
    ours = getattr(onlooker, name)(onlooker.Blip2Config(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def without_cross_distances(theirs: torch.nn.Module) -> None:
    """The reference adds query-to-query distances to picture scores too, which breaks on any real picture size."""
    for name, module in theirs.named_modules():
        if name.endswith("crossattention.attention"):
            module.position_embedding_type = "absolute"


def mask_of(ids: torch.Tensor, row: int, count: int) -> torch.Tensor:
    """All ones but the last `count` of one row."""
    mask = torch.ones_like(ids)
    if count:
        mask[row, -count:] = 0
    return mask


def video_llava_pair(name: str, seed: int, **options: Any) -> tuple[Any, Any]:
    """Ours and theirs of a Video-LLaVA class, with equal weights; options as for `tiny.video_llava_config`."""
    values = video_llava_config(seed, **options)
    theirs_config = transformers.VideoLlavaConfig(**values, attn_implementation="eager")
    theirs = getattr(transformers, name)(theirs_config).eval()
    randomize(theirs, seed)
    ours = getattr(onlooker, name)(onlooker.VideoLlavaConfig(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def instructblip_pair(name: str, seed: int, text: str, *, absolute: bool = False, **options: Any) -> tuple[Any, Any]:
    """Ours and theirs of an InstructBLIP class, with equal weights; `name` without the task, as "InstructBlipVideo"."""
    token = "video_token_index" if "Video" in name else "image_token_index"
    values = blip2_config(seed, text, **options)
    del values["image_text_hidden_size"], values["qformer_config"]["use_qformer_text_input"]
    values[token] = values.pop("image_token_index")
    if absolute:  # without the positions that `without_cross_distances` would have to mend in every copy
        values["qformer_config"]["position_embedding_type"] = "absolute"
    theirs_config = getattr(transformers, f"{name}Config")(**values, attn_implementation="eager")
    theirs = getattr(transformers, f"{name}ForConditionalGeneration")(theirs_config).eval()
    randomize(theirs, seed)
    without_cross_distances(theirs)
    ours = getattr(onlooker, f"{name}ForConditionalGeneration")(getattr(onlooker, f"{name}Config")(**values)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs
