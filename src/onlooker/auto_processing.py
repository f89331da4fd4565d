"""AutoTokenizer and AutoProcessor: the class that reads a folder's text and pixels, picked from its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from onlooker.errors import ModelNotFoundError
from onlooker.hub import find_file, split_hub_options
from onlooker.models.blip2.processor import Blip2Processor
from onlooker.models.instructblip.processor import InstructBlipVideoProcessor
from onlooker.models.processing import PROCESSOR_FILE, Processor
from onlooker.models.video_llava.original import ORIGINAL
from onlooker.models.video_llava.paper import paper_processor
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import (
    BlipImageProcessor,
    ImageProcessor,
    InstructBlipVideoImageProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaVideoProcessor,
)
from onlooker.text import Tokenizer
from onlooker.text.loading import VOCABULARIES, read_json

_BY_NAME: dict[str, type[Processor]] = {
    "Blip2Processor": Blip2Processor,
    "InstructBlipProcessor": InstructBlipVideoProcessor,  # the released checkpoints; a picture is a clip of one frame
    "InstructBlipVideoProcessor": InstructBlipVideoProcessor,
    "VideoLlavaProcessor": VideoLlavaProcessor,
}
_BY_MODEL_TYPE: dict[str, type[Processor]] = {
    "blip-2": Blip2Processor,
    "instructblip": InstructBlipVideoProcessor,
    "instructblipvideo": InstructBlipVideoProcessor,
    "video_llava": VideoLlavaProcessor,
}
_IMAGE_PROCESSORS: dict[str, type[ImageProcessor]] = {
    "BlipImageProcessor": BlipImageProcessor,
    "InstructBlipVideoImageProcessor": InstructBlipVideoImageProcessor,
    "InstructBlipVideoVideoProcessor": InstructBlipVideoImageProcessor,
    "VideoLlavaImageProcessor": VideoLlavaImageProcessor,
    "VideoLlavaVideoProcessor": VideoLlavaVideoProcessor,
}
# Where the name of the processor's class may be written, the place that says most first.
_NAMED_IN = (PROCESSOR_FILE, "preprocessor_config.json", "video_preprocessor_config.json", "tokenizer_config.json")


class AutoTokenizer:
    """`AutoTokenizer.from_pretrained` gives the `Tokenizer` of a folder or hub id."""

    def __init__(self) -> None:
        raise TypeError("AutoTokenizer is not built itself; use AutoTokenizer.from_pretrained(name_or_path)")

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **options: Any) -> Tokenizer:
        """Same as `Tokenizer.from_pretrained`."""
        return Tokenizer.from_pretrained(name_or_path, **options)


class AutoProcessor:
    """`AutoProcessor.from_pretrained` gives the processor of a folder or hub id."""

    def __init__(self) -> None:
        raise TypeError("AutoProcessor is not built itself; use AutoProcessor.from_pretrained(name_or_path)")

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], **options: Any
    ) -> Processor | ImageProcessor | Tokenizer:
        """Load the processor whose class the files name, or the model's config.json stands for.

        Returns:
            A processor; the image processor or the tokenizer alone where the folder has only that.

        Raises:
            ModelNotFoundError: no such model, or it has neither pixels nor text to process.
            ValueError: a processor of a family that is not among ours.
        """
        hub, _ = split_hub_options(options)
        model_type = read_json(find_file(name_or_path, "config.json", **hub)).get("model_type")
        if model_type == ORIGINAL:  # whose folder has a tokenizer and nothing else to process with
            return paper_processor(name_or_path, **hub)
        files = {filename: read_json(find_file(name_or_path, filename, **hub)) for filename in _NAMED_IN}
        has_text = any(find_file(name_or_path, filename, **hub) for filename in VOCABULARIES)
        pixels = _pixel_options(files)
        if not has_text and not pixels:
            raise ModelNotFoundError(
                f"{os.fspath(name_or_path)!r} has no processor: neither preprocessor_config.json nor a tokenizer. "
                "Give the folder or hub id that the checkpoint was published as."
            )
        if not pixels:
            return Tokenizer.from_pretrained(name_or_path, **options)
        if not has_text:
            return _image_processor(pixels).from_pretrained(name_or_path, **options)
        names = [values["processor_class"] for values in files.values() if values.get("processor_class")]
        return _processor_class(name_or_path, names, model_type).from_pretrained(name_or_path, **options)


def _pixel_options(files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The options of the image processor, from its own file or the newer nested one; empty without either."""
    nested = files[PROCESSOR_FILE].get("image_processor") or files[PROCESSOR_FILE].get("video_processor") or {}
    return files["preprocessor_config.json"] or files["video_preprocessor_config.json"] or nested


def _image_processor(options: Mapping[str, Any]) -> type[ImageProcessor]:
    named = options.get("image_processor_type") or options.get("video_processor_type") or "BlipImageProcessor"
    name = str(named).removesuffix("Fast")
    if name not in _IMAGE_PROCESSORS:
        raise ValueError(f"image_processor_type is {name!r}; there are {', '.join(_IMAGE_PROCESSORS)}")
    return _IMAGE_PROCESSORS[name]


def _processor_class(name_or_path: str | os.PathLike[str], names: list[str], model_type: str | None) -> type[Processor]:
    for name in names:
        if name in _BY_NAME:
            return _BY_NAME[name]
    if model_type in _BY_MODEL_TYPE:
        return _BY_MODEL_TYPE[model_type]
    found = f"processor_class {names[0]!r}" if names else f"model_type {model_type!r} and no processor_class"
    raise ValueError(
        f"{os.fspath(name_or_path)!r} has {found}; processors are {', '.join(_BY_NAME)}, and model types "
        f"{', '.join(_BY_MODEL_TYPE)}. Use the processor's class itself if you know that it fits."
    )
