"""From the model_type of a checkpoint to its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from onlooker.auto_processing import AutoProcessor, AutoTokenizer
from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.config import Config, read_config
from onlooker.hub import split_hub_options
from onlooker.language.config import LlamaConfig, OPTConfig, T5Config
from onlooker.models.blip2.config import Blip2Config
from onlooker.models.blip2.generation import Blip2ForConditionalGeneration, Blip2Model
from onlooker.models.blip2.parts import Blip2QFormerModel, Blip2VisionModel
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
from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration
from onlooker.models.video_llava.config import VideoLlavaConfig
from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration
from onlooker.models.video_llava.model import CLIPVisionModel, VideoLlavaModel
from onlooker.models.video_llava.original import ORIGINAL
from onlooker.pretrained import PreTrainedModel
from onlooker.vision.config import Blip2VisionConfig, CLIPVisionConfig

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForVisualQuestionAnswering",
    "AutoProcessor",
    "AutoTokenizer",
]

CONFIGS: dict[str, type[Config]] = {
    cls.model_type: cls
    for cls in (
        Blip2Config,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        CLIPVisionConfig,
        InstructBlipConfig,
        InstructBlipQFormerConfig,
        InstructBlipVideoConfig,
        InstructBlipVideoQFormerConfig,
        InstructBlipVideoVisionConfig,
        InstructBlipVisionConfig,
        LlamaConfig,
        OPTConfig,
        T5Config,
        VideoLlavaConfig,
    )
}
CONFIGS[ORIGINAL] = VideoLlavaConfig
#: classes that a checkpoint may name under `architectures` in place of its model_type's usual one
SPECIAL: dict[str, type[PreTrainedModel]] = {
    cls.__name__: cls
    for cls in (Blip2ForImageTextRetrieval, Blip2TextModelWithProjection, Blip2VisionModelWithProjection)
}


class AutoConfig:
    """The configuration class of a checkpoint."""

    @staticmethod
    def for_model(model_type: str, **kwargs: Any) -> Config:
        """A fresh configuration of that model_type.

        Raises:
            ValueError: an unknown model_type.
        """
        return _pick(CONFIGS, model_type)(**kwargs)

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Config:
        """Read config.json of a folder or a hub name, with overrides and hub options.

        Raises:
            ModelNotFoundError: there is no such model.
            ValueError: an unknown model_type.
        """
        hub_options, overrides = split_hub_options(kwargs)
        values = read_config(pretrained_model_name_or_path, **hub_options)
        return _pick(CONFIGS, values.get("model_type")).from_dict(values, **overrides)


class AutoModel:
    """The model class of a checkpoint, without what a task puts on top.

    A checkpoint made for retrieval, which has no language model, gives its retrieval class.
    """

    classes: ClassVar[dict[str, type[PreTrainedModel]]] = {
        "blip-2": Blip2Model,
        "blip_2_qformer": Blip2QFormerModel,
        "blip_2_vision_model": Blip2VisionModel,
        "clip_vision_model": CLIPVisionModel,
        "instructblip": InstructBlipModel,
        "instructblip_qformer": InstructBlipQFormerModel,
        "instructblip_vision_model": InstructBlipVisionModel,
        "instructblipvideo": InstructBlipVideoModel,
        "instructblipvideo_qformer": InstructBlipVideoQFormerModel,
        "instructblipvideo_vision_model": InstructBlipVideoVisionModel,
        "llama": LlamaForCausalLM,
        "opt": OPTForCausalLM,
        "t5": T5ForConditionalGeneration,
        "video_llava": VideoLlavaModel,
    }

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedModel:
        """Load a model; options as for `PreTrainedModel.from_pretrained`.

        Raises:
            ModelNotFoundError: there is no such model.
            ValueError: a model_type that this class does not know.
        """
        config = kwargs.get("config")
        if config is None:
            config = AutoConfig.from_pretrained(pretrained_model_name_or_path, **split_hub_options(kwargs)[0])
        return cls.class_for(config).from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_config(cls, config: Config) -> PreTrainedModel:
        """A model with fresh weights."""
        return cls.class_for(config)(config)

    @classmethod
    def class_for(cls, config: Config) -> type[PreTrainedModel]:
        """The class of a configuration: the retrieval class that its `architectures` name, else its family's.

        Raises:
            ValueError: a model_type that this class does not know.
        """
        for name in config.architectures or ():
            if name in SPECIAL:
                return SPECIAL[name]
        return _pick(cls.classes, config.model_type)


class AutoModelForImageTextToText(AutoModel):
    """The class of a checkpoint that writes about pictures and clips."""

    classes: ClassVar[dict[str, type[PreTrainedModel]]] = {
        "blip-2": Blip2ForConditionalGeneration,
        "instructblip": InstructBlipForConditionalGeneration,
        "instructblipvideo": InstructBlipVideoForConditionalGeneration,
        "video_llava": VideoLlavaForConditionalGeneration,
    }


AutoModelForVision2Seq = AutoModelForVisualQuestionAnswering = AutoModelForImageTextToText


def _pick(classes: dict[str, Any], model_type: str | None) -> Any:
    if model_type not in classes:
        raise ValueError(f"model_type is {model_type!r}; this class knows {', '.join(sorted(classes))}")
    return classes[model_type]
