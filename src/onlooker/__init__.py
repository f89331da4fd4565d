"""Onlooker: ask questions about images and videos.

Names are imported when they are first used, so that `import onlooker` is immediate.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from onlooker.auto import (
        AutoConfig,
        AutoModel,
        AutoModelForImageTextToText,
        AutoModelForVision2Seq,
        AutoModelForVisualQuestionAnswering,
    )
    from onlooker.auto_processing import AutoProcessor, AutoTokenizer
    from onlooker.bridge.config import Blip2QFormerConfig
    from onlooker.generate.config import GenerationConfig
    from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
    from onlooker.media.frames import Frames
    from onlooker.media.image import load_image
    from onlooker.media.limits import VideoLimits
    from onlooker.media.video import VideoInfo, iter_windows, load_video, probe_video
    from onlooker.models.blip2.config import Blip2Config
    from onlooker.models.blip2.generation import Blip2ForConditionalGeneration, Blip2Model
    from onlooker.models.blip2.parts import Blip2QFormerModel, Blip2VisionModel
    from onlooker.models.blip2.processor import Blip2Processor
    from onlooker.models.blip2.retrieval import (
        Blip2ForImageTextRetrieval,
        Blip2TextModelWithProjection,
        Blip2VisionModelWithProjection,
    )
    from onlooker.models.instructblip.config import (
        InstructBlipConfig,
        InstructBlipQFormerConfig,
        InstructBlipVideoConfig,
        InstructBlipVideoQFormerConfig,
        InstructBlipVideoVisionConfig,
        InstructBlipVisionConfig,
    )
    from onlooker.models.instructblip.generation import (
        InstructBlipForConditionalGeneration,
        InstructBlipModel,
        InstructBlipVideoForConditionalGeneration,
        InstructBlipVideoModel,
    )
    from onlooker.models.instructblip.parts import (
        InstructBlipQFormerModel,
        InstructBlipVideoQFormerModel,
        InstructBlipVideoVisionModel,
        InstructBlipVisionModel,
    )
    from onlooker.models.instructblip.processor import InstructBlipProcessor, InstructBlipVideoProcessor
    from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration
    from onlooker.models.video_llava.config import VideoLlavaConfig
    from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration
    from onlooker.models.video_llava.model import CLIPVisionModel, VideoLlavaModel
    from onlooker.models.video_llava.processor import VideoLlavaProcessor
    from onlooker.pipeline import Answer, Onlooker
    from onlooker.pixels.blip import BlipImageProcessor
    from onlooker.pixels.video import InstructBlipVideoImageProcessor, InstructBlipVideoVideoProcessor
    from onlooker.pixels.video_llava import VideoLlavaImageProcessor, VideoLlavaVideoProcessor
    from onlooker.quant.bnb import BitsAndBytesConfig
    from onlooker.quant.report import weight_report
    from onlooker.reuse.cache import Cache
    from onlooker.vision.config import Blip2VisionConfig, CLIPVisionConfig

__version__ = "0.1.0"

_MODULES = {
    "auto": (
        "AutoConfig AutoModel AutoModelForImageTextToText AutoModelForVision2Seq AutoModelForVisualQuestionAnswering"
    ),
    "auto_processing": "AutoProcessor AutoTokenizer",
    "bridge.config": "Blip2QFormerConfig",
    "generate.config": "GenerationConfig",
    "language.config": "LlamaConfig OPTConfig T5Config",
    "media.frames": "Frames",
    "media.image": "load_image",
    "media.limits": "VideoLimits",
    "media.video": "VideoInfo iter_windows load_video probe_video",
    "models.blip2.config": "Blip2Config",
    "models.blip2.generation": "Blip2ForConditionalGeneration Blip2Model",
    "models.blip2.parts": "Blip2QFormerModel Blip2VisionModel",
    "models.blip2.processor": "Blip2Processor",
    "models.blip2.retrieval": (
        "Blip2ForImageTextRetrieval Blip2TextModelWithProjection Blip2VisionModelWithProjection"
    ),
    "models.instructblip.config": (
        "InstructBlipConfig "
        "InstructBlipQFormerConfig "
        "InstructBlipVideoConfig "
        "InstructBlipVideoQFormerConfig "
        "InstructBlipVideoVisionConfig "
        "InstructBlipVisionConfig"
    ),
    "models.instructblip.generation": (
        "InstructBlipForConditionalGeneration "
        "InstructBlipModel "
        "InstructBlipVideoForConditionalGeneration "
        "InstructBlipVideoModel"
    ),
    "models.instructblip.parts": (
        "InstructBlipQFormerModel InstructBlipVideoQFormerModel InstructBlipVideoVisionModel InstructBlipVisionModel"
    ),
    "models.instructblip.processor": "InstructBlipProcessor InstructBlipVideoProcessor",
    "models.language": "LlamaForCausalLM OPTForCausalLM T5ForConditionalGeneration",
    "models.video_llava.config": "VideoLlavaConfig",
    "models.video_llava.generation": "VideoLlavaForConditionalGeneration",
    "models.video_llava.model": "CLIPVisionModel VideoLlavaModel",
    "models.video_llava.processor": "VideoLlavaProcessor",
    "pipeline": "Answer Onlooker",
    "pixels.blip": "BlipImageProcessor",
    "pixels.video": "InstructBlipVideoImageProcessor InstructBlipVideoVideoProcessor",
    "pixels.video_llava": "VideoLlavaImageProcessor VideoLlavaVideoProcessor",
    "quant.bnb": "BitsAndBytesConfig",
    "quant.report": "weight_report",
    "reuse.cache": "Cache",
    "vision.config": "Blip2VisionConfig CLIPVisionConfig",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Answer",
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForVisualQuestionAnswering",
    "AutoProcessor",
    "AutoTokenizer",
    "BitsAndBytesConfig",
    "Blip2Config",
    "Blip2ForConditionalGeneration",
    "Blip2ForImageTextRetrieval",
    "Blip2Model",
    "Blip2Processor",
    "Blip2QFormerConfig",
    "Blip2QFormerModel",
    "Blip2TextModelWithProjection",
    "Blip2VisionConfig",
    "Blip2VisionModel",
    "Blip2VisionModelWithProjection",
    "BlipImageProcessor",
    "CLIPVisionConfig",
    "CLIPVisionModel",
    "Cache",
    "Frames",
    "GenerationConfig",
    "InstructBlipConfig",
    "InstructBlipForConditionalGeneration",
    "InstructBlipModel",
    "InstructBlipProcessor",
    "InstructBlipQFormerConfig",
    "InstructBlipQFormerModel",
    "InstructBlipVideoConfig",
    "InstructBlipVideoForConditionalGeneration",
    "InstructBlipVideoImageProcessor",
    "InstructBlipVideoModel",
    "InstructBlipVideoProcessor",
    "InstructBlipVideoQFormerConfig",
    "InstructBlipVideoQFormerModel",
    "InstructBlipVideoVideoProcessor",
    "InstructBlipVideoVisionConfig",
    "InstructBlipVideoVisionModel",
    "InstructBlipVisionConfig",
    "InstructBlipVisionModel",
    "LlamaConfig",
    "LlamaForCausalLM",
    "OPTConfig",
    "OPTForCausalLM",
    "Onlooker",
    "T5Config",
    "T5ForConditionalGeneration",
    "VideoInfo",
    "VideoLimits",
    "VideoLlavaConfig",
    "VideoLlavaForConditionalGeneration",
    "VideoLlavaImageProcessor",
    "VideoLlavaModel",
    "VideoLlavaProcessor",
    "VideoLlavaVideoProcessor",
    "iter_windows",
    "load_image",
    "load_video",
    "probe_video",
    "weight_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'onlooker' has no attribute {name!r}")
    value = globals()[name] = getattr(_import(f"onlooker.{_HOME[name]}"), name)
    return value


def _import(name: str) -> ModuleType:
    """Import a module; the first one, which brings torch, without collecting garbage meanwhile.

    Python otherwise looks through what torch makes some 390 times, a tenth of the time, and finds that it stays. So all
    of it counts as old at once: the next full collection looks at it, the many small ones before that do not.
    """
    if "torch" in sys.modules or not gc.isenabled() or gc.get_freeze_count():  # a caller that has plans of its own
        return import_module(name)
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()  # both together move every object to the oldest generation, without a look at any
        gc.unfreeze()
        gc.enable()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
