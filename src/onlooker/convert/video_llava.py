"""Reads the original Video-LLaVA: a LLaMA's config.json, a slow tokenizer, and .bin files with both towers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from onlooker.config import read_config
from onlooker.convert.draft import Draft
from onlooker.errors import CheckpointError
from onlooker.models.video_llava.config import VideoLlavaConfig
from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration
from onlooker.models.video_llava.paper import paper_processor
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import VideoLlavaImageProcessor, VideoLlavaVideoProcessor
from onlooker.weights.layouts.positions import grid_side
from onlooker.weights.layouts.video_llava import HF, IMAGE_TOWER, PAPER, VIDEO_TOWER
from onlooker.weights.reading import StoredTensor, find_weights

FORMS = ("paper", "hf")
_HEAD_SIZE = 64  # of every CLIP tower; it cannot be seen in the shapes


def read_original(
    source: str | os.PathLike[str],
    hub: Mapping[str, Any],
    *,
    form: str = "paper",
    image_tower: str | os.PathLike[str] | None = None,
    video_tower: str | os.PathLike[str] | None = None,
) -> Draft:
    """A folder or hub name in the original's layout.

    Args:
        form: "paper" keeps attention over time, exact gelu and the paper's preprocessing; "hf" makes of it what the
            published -hf checkpoint is, without them.
        image_tower, video_tower: LanguageBind's own repositories of the towers, for a file without them.

    Raises:
        ModelNotFoundError: no such model.
        CheckpointError: it is not Video-LLaVA, or lacks a tower.
        ValueError: another form.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it may be {' or '.join(map(repr, FORMS))}")
    given = find_weights(os.fspath(source), **hub)
    table = PAPER if form == "paper" else HF
    stored = table.renamed(given)
    for which, name, tower_table in (("image", image_tower, IMAGE_TOWER), ("video", video_tower, VIDEO_TOWER)):
        if name is not None:
            stored |= _tower(os.fspath(name), tower_table, form, hub)
        if f"{which}_tower.vision_model.embeddings.class_embedding" not in stored:
            raise CheckpointError(
                f"{os.fspath(source)} has no {which} tower. Give the folder of its own repository "
                f"(LanguageBind/LanguageBind_{'Image' if which == 'image' else 'Video_merge'}): --{which}-tower DIR."
            )
    vision = {**_sizes(stored), "hidden_act": "gelu" if form == "paper" else "quick_gelu"}
    values = read_config(os.fspath(source), **hub)
    config: Any = VideoLlavaConfig.from_dict(values, vision_config=vision, video_time_frames=_time_frames(stored))
    processor = _processor(source, config, form, hub)
    config.image_token_index, config.video_token_index = processor.image_token_id, processor.video_token_id
    config.pad_token_id = processor.tokenizer.pad_token_id
    return Draft(
        kind=f"original Video-LLaVA, in the form of {'the paper' if form == 'paper' else 'the -hf checkpoint'}",
        model_class=VideoLlavaForConditionalGeneration,
        config=config,
        stored=stored,
        save_processor=processor.save_pretrained,
        token_rows=max(config.text_config.vocab_size, len(processor.tokenizer)),
        generation_from=os.fspath(source),
        hub=hub,
        dropped=sorted(name for name in given if table.to_memory(name) is None),
    )


def _tower(name: str, table: Any, form: str, hub: Mapping[str, Any]) -> dict[str, StoredTensor]:
    tensors = table.renamed(find_weights(name, **hub))
    return {key: value for key, value in tensors.items() if form == "paper" or ".temporal_" not in key}


def _sizes(stored: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """What the tensors of the picture tower say about its shape."""
    stem = "image_tower.vision_model."
    hidden_size = stored[f"{stem}embeddings.class_embedding"].shape[0]
    patch_size = stored[f"{stem}embeddings.patch_embedding.weight"].shape[-1]
    side = grid_side((1, *stored[f"{stem}embeddings.position_embedding.weight"].shape))
    layers = [name for name in stored if name.startswith(f"{stem}encoder.layers.") and name.endswith("mlp.fc1.weight")]
    return {
        "hidden_size": hidden_size,
        "intermediate_size": stored[f"{stem}encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, hidden_size // _HEAD_SIZE),
        "patch_size": patch_size,
        "image_size": side * patch_size,
    }


def _time_frames(stored: Mapping[str, StoredTensor]) -> int | None:
    table = stored.get("video_tower.vision_model.encoder.layers.0.temporal_embedding")
    return None if table is None else table.shape[1]


def _processor(source: Any, config: VideoLlavaConfig, form: str, hub: Mapping[str, Any]) -> VideoLlavaProcessor:
    size, patch_size = config.vision_config.image_size, config.vision_config.patch_size
    processor = paper_processor(source, size=size, patch_size=patch_size, **hub)
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    if form == "hf":
        options = {"size": size, "crop_size": size}
        processor.image_processor = VideoLlavaImageProcessor(**options)
        processor.video_processor = VideoLlavaVideoProcessor(**options)
        processor.chat_template = None
    return processor
