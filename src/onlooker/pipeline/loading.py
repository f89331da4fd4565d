"""From a name to a model and its processor: which class, which device, which dtype."""

from __future__ import annotations

from typing import Any

import torch

from onlooker.auto import AutoConfig
from onlooker.auto_processing import AutoProcessor
from onlooker.config import Config
from onlooker.errors import CheckpointError
from onlooker.hub import split_hub_options
from onlooker.models.blip2.generation import Blip2ForConditionalGeneration
from onlooker.models.blip2.retrieval import Blip2ForImageTextRetrieval
from onlooker.models.instructblip.config import InstructBlipVideoConfig
from onlooker.models.instructblip.generation import InstructBlipVideoForConditionalGeneration
from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration
from onlooker.pretrained.adapter import find_adapter, load_adapter
from onlooker.weights.policy import describe_dtypes

WRITERS: dict[str, Any] = {
    "blip-2": Blip2ForConditionalGeneration,
    "instructblipvideo": InstructBlipVideoForConditionalGeneration,
    "video_llava": VideoLlavaForConditionalGeneration,
}
MATCHERS: dict[str, Any] = {"blip-2": Blip2ForImageTextRetrieval}


def read_processor(name: Any, **options: Any) -> tuple[Any, Config]:
    """The processor and the configuration of a checkpoint; its weights are left alone.

    Raises:
        ModelNotFoundError: there is no such checkpoint.
        ValueError: a family that the pipeline does not know.
    """
    hub, _ = split_hub_options(options)
    config = AutoConfig.from_pretrained(name, **hub)
    if config.model_type == "instructblip":  # to the classes for clips, a picture is a clip of one frame
        config = InstructBlipVideoConfig.from_pretrained(name, **hub)
    if config.model_type not in WRITERS:
        raise ValueError(f"{name} is a {config.model_type} checkpoint; this pipeline knows {', '.join(WRITERS)}")
    return AutoProcessor.from_pretrained(name, **hub), config


def read_model(
    name: Any, config: Config, *, dtype: Any, device: Any, device_map: Any, adapter: Any = None, **options: Any
) -> Any:
    """The model of a checkpoint, in the class that its configuration asks for, with an adapter of peft merged in."""
    if device is not None and device_map is not None:
        raise ValueError("give device or device_map, not both")
    place = device_map if device_map is not None else choose_device(device)
    hub, _ = split_hub_options(options)
    if adapter is not None:
        adapter = find_adapter(adapter, **hub)  # before the weights, which may take minutes
    family = MATCHERS if compares(config) else WRITERS
    model = family[config.model_type].from_pretrained(name, torch_dtype=dtype, device_map=place, **options)
    return model if adapter is None else load_adapter(model, adapter)


def choose_device(device: Any) -> torch.device:
    """The device asked for, or CUDA where there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not known: give cpu, cuda or cuda:0") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device here: use cpu")
    return chosen


def compares(config: Config) -> bool:
    """Whether a checkpoint is one of those that compare images with texts and have no language model."""
    named = config.architectures or []
    if named:
        return any("ImageTextRetrieval" in name for name in named)
    return config.model_type == "blip-2" and bool(config.qformer_config.use_qformer_text_input)


def is_matching(model: Any) -> bool:
    """Whether a model compares images with texts; the others write."""
    return hasattr(model, "itm_head")


def check_kind(name: Any, *, is_matching: bool, wants_matching: bool) -> None:
    """Refuse a checkpoint of the other kind.

    Raises:
        CheckpointError: it compares images with texts and words were asked for, or the other way about.
    """
    if wants_matching and not is_matching:
        raise CheckpointError(
            f"match needs the image-text-matching heads (ITM and ITC), and {name} is a checkpoint that writes, without "
            f"them. Load one of the matching kind, such as Salesforce/blip2-itm-vit-g."
        )
    if is_matching and not wants_matching:
        raise CheckpointError(
            f"captions, answers and ranking need a language model, and {name} compares images with texts instead. "
            f"Use match, or load a checkpoint that writes, such as Salesforce/blip2-opt-2.7b."
        )


def describe(name: Any, model: Any, config: Config, dtype: Any) -> str:
    """One line on what was loaded and how."""
    count = sum(parameter.numel() for parameter in model.parameters())
    text = "matching" if compares(config) else config.get_text_config().model_type
    policy = f" (policy {dtype})" if isinstance(dtype, str) else ""
    size = f"{count / 1e9:.2f} B" if count >= 1e7 else f"{count:,}"
    return (
        f"{name}: {config.model_type} + {text}, {size} parameters, {describe_dtypes(model)}{policy} on {model.device}"
    )
