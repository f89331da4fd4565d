"""Reads a folder in the published layout, of any age: .bin files, no placeholders, no processor attributes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken

from onlooker.auto import SPECIAL, AutoConfig, AutoModelForImageTextToText
from onlooker.config import Config
from onlooker.convert.draft import Draft
from onlooker.errors import CheckpointError
from onlooker.models.blip2.processor import Blip2Processor
from onlooker.models.instructblip.processor import InstructBlipProcessor, InstructBlipVideoProcessor
from onlooker.models.processing import Processor
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer
from onlooker.weights.reading import StoredTensor, find_weights

_PROCESSORS: dict[str, type[Processor]] = {
    "blip-2": Blip2Processor,
    "instructblip": InstructBlipProcessor,
    "instructblipvideo": InstructBlipVideoProcessor,
    "video_llava": VideoLlavaProcessor,
}


def read_published(source: str | os.PathLike[str], hub: Mapping[str, Any]) -> Draft:
    """A folder or hub name of one of the three families.

    Raises:
        ModelNotFoundError: no such model, or files that a complete folder needs are missing from it.
        CheckpointError: another family, or placeholders that the config and the tokenizer do not agree on.
    """
    config = AutoConfig.from_pretrained(os.fspath(source), **hub)
    if config.model_type not in _PROCESSORS:
        raise CheckpointError(
            f"{os.fspath(source)} is a {config.model_type} checkpoint; `convert` makes whole folders of "
            f"{', '.join(_PROCESSORS)}, of LAVIS files and of the original Video-LLaVA."
        )
    model_class = AutoModelForImageTextToText.class_for(config)
    stored = find_weights(os.fspath(source), **hub)
    if model_class.__name__ in SPECIAL:
        return _retrieval(source, config, model_class, stored, hub)
    vocab_size, is_old = config.get_text_config().vocab_size, _placeholder(config) is None
    processor: Any = _PROCESSORS[config.model_type].from_pretrained(source, **hub)
    if config.model_type == "video_llava":
        _fit_video_llava(processor, config)
    else:
        processor.num_query_tokens = config.num_query_tokens
        _agree(config, processor, processor.media)
    words = len(processor.tokenizer)
    return Draft(
        kind=f"{config.model_type} folder",
        model_class=model_class,
        config=config,
        stored=stored,
        save_processor=processor.save_pretrained,
        token_rows=max(vocab_size, words) if is_old or words > vocab_size else 0,
        generation_from=os.fspath(source),
        hub=hub,
    )


def _placeholder(config: Any) -> int | None:
    return config.video_token_index if hasattr(config, "video_token_index") else config.image_token_index


def _retrieval(
    source: Any, config: Config, model_class: Any, stored: Mapping[str, StoredTensor], hub: Mapping[str, Any]
) -> Draft:
    """Retrieval compares texts with pictures and has no place for one in its prompts."""
    return Draft(
        kind="blip-2 retrieval folder",
        model_class=model_class,
        config=config,
        stored=stored,
        save_processor=pair_saver(
            BlipImageProcessor.from_pretrained(source, **hub), Tokenizer.from_pretrained(source, **hub)
        ),
    )


def pair_saver(pixels: BlipImageProcessor, tokenizer: Tokenizer) -> Any:
    """Writes the two parts of a processor that has nothing to say itself."""

    def save(folder: Any) -> None:
        pixels.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return save


def _fit_video_llava(processor: VideoLlavaProcessor, config: Any) -> None:
    tokens = [processor.image_token, processor.video_token]
    known = processor.tokenizer.added_tokens_encoder
    new = [AddedToken(token, normalized=False, special=True) for token in tokens if token not in known]
    processor.tokenizer.add_tokens(new, special_tokens=True)
    processor.patch_size = config.vision_config.patch_size
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    for media in ("image", "video"):
        _agree(config, processor, media)


def _agree(config: Any, processor: Any, media: str) -> None:
    """Give the config the placeholder of the tokenizer where it has none.

    Raises:
        CheckpointError: it has another.
    """
    field, own = f"{media}_token_index", getattr(processor, f"{media}_token_id")
    given = getattr(config, field)
    if given is not None and given != own:
        raise CheckpointError(
            f"config.json says {field} {given}, but the tokenizer has <{media}> at {own}: files of two checkpoints? "
            "Put the tokenizer that belongs to these weights beside them."
        )
    setattr(config, field, own)
