"""The config.json of the original Video-LLaVA (LanguageBind/Video-LLaVA-7B), read as a `VideoLlavaConfig`.

It describes a LLaMA and names the towers' own repositories; what the towers are is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onlooker.errors import CheckpointError
from onlooker.language.config import LlamaConfig

#: the model_type that it gives itself, as LLaVA does
ORIGINAL = "llava"
#: frames that LanguageBind's video tower attends over
TIME_FRAMES = 8

_STRATEGIES = {"patch": "default", "cls_patch": "full"}
_OWN_TO_TEXT = ("architectures", "model_type", "transformers_version")


def translated(values: Mapping[str, Any], tower: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The values of a `VideoLlavaConfig` that an original config.json stands for.

    Args:
        values: the original's, and fields of `VideoLlavaConfig` that are to win over what they say.
        tower: sizes of the towers, which have exact gelu besides.
        fields: names of the fields of `VideoLlavaConfig`.

    Raises:
        CheckpointError: not of a Video-LLaVA, or of one with another projector.
    """
    if not values.get("mm_video_tower"):
        raise CheckpointError(
            "config.json has model_type 'llava' and names no mm_video_tower: it is LLaVA, which sees pictures only, "
            "and not the original Video-LLaVA. Load LanguageBind/Video-LLaVA-7B or LanguageBind/Video-LLaVA-7B-hf."
        )
    projector = values.get("mm_projector_type", "mlp2x_gelu")
    if projector != "mlp2x_gelu":
        raise CheckpointError(f"mm_projector_type is {projector!r}; the projector here is 'mlp2x_gelu'")
    if values.get("mm_use_im_start_end") or values.get("mm_use_im_patch_token"):
        raise CheckpointError("this checkpoint puts tokens of its own around pictures, which Video-LLaVA-7B does not")
    text = {name: values[name] for name in LlamaConfig._field_names if name in values and name not in _OWN_TO_TEXT}
    words = text.get("vocab_size", LlamaConfig.vocab_size)
    translation = {
        "text_config": text,
        "image_token_index": words,
        "video_token_index": words + 1,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": values.get("mm_vision_select_layer", -2),
        "vision_feature_select_strategy": _STRATEGIES.get(values.get("mm_vision_select_feature", "patch"), "default"),
        "video_time_frames": TIME_FRAMES,
        "torch_dtype": values.get("torch_dtype", values.get("dtype")),
    }
    own = {name: values[name] for name in fields if name in values and name != "architectures"}
    vision = dict(tower) | {"hidden_act": "gelu"} | dict(own.pop("vision_config", None) or {})
    return translation | own | {"vision_config": vision, "architectures": ["VideoLlavaForConditionalGeneration"]}
