"""LoRA through peft (arXiv:2106.09685): which layers of each family get an adapter, and how it is saved.

On a model loaded in 4 bits (`load_in_4bit=True`) the same is QLoRA (arXiv:2305.14314).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onlooker.pretrained.adapter import peft_of, remember, require_peft


@dataclass(frozen=True)
class Preset:
    """Layers with adapters (a regex of whole module names), modules that learn as they are, and sizes."""

    targets: str
    whole: tuple[str, ...]
    rank: int
    alpha: int
    dropout: float = 0.05


#: every linear layer of a language model but its head; T5's `wo`, which stays in float32 beside float16, is left alone
_LINEARS = {
    "opt": "q_proj|k_proj|v_proj|out_proj|fc1|fc2",
    "llama": "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj",
    "t5": r"(?:SelfAttention|EncDecAttention)\.[qkvo]|DenseReluDense\.wi(?:_[01])?",
}
_QFORMER = r"qformer\..*\.attention\.(?:query|value)"


def preset(model: nn.Module, where: str = "language") -> Preset:
    """What suits a model.

    Args:
        where: "language" (its language model), "qformer", or "all" for both.

    Raises:
        ValueError: no such place in this family, or a language model that is not known here.
    """
    config: Any = model.config
    text = config.get_text_config().model_type
    is_llava = config.model_type == "video_llava"
    if where not in ("language", "qformer", "all") or (is_llava and where != "language"):
        raise ValueError(f"adapters may go to {'language' if is_llava else 'language, qformer or all'}, not {where!r}")
    if text not in _LINEARS and where != "qformer":
        raise ValueError(f"no preset for the language model {text!r}: give targets, a regex of module names")
    language = rf".*language_model\..*\.(?:{_LINEARS.get(text)})"
    targets = {"language": language, "qformer": _QFORMER, "all": f"(?:{language})|(?:{_QFORMER})"}[where]
    if is_llava:  # the sizes of LLaVA's own LoRA recipe (arXiv:2310.03744)
        return Preset(targets, ("multi_modal_projector",), rank=128, alpha=256)
    return Preset(targets, ("language_projection",), rank=16, alpha=32)


def add_lora(
    model: nn.Module,
    where: str = "language",
    *,
    targets: str | None = None,
    rank: int | None = None,
    alpha: int | None = None,
    dropout: float | None = None,
    whole: tuple[str, ...] | None = None,
    base: str | None = None,
) -> nn.Module:
    """Put fresh adapters into a model, in place; a stage made of it afterwards trains these alone.

    Args:
        where: see `preset`.
        targets: a regex of whole module names in place of the preset's.
        rank, alpha, dropout, whole: in place of the preset's. A given rank without alpha keeps alpha at twice the rank.
        base: name of the checkpoint, written into adapter_config.json.

    Raises:
        MissingExtraError: peft is not installed.
        ValueError: no preset, nothing that fits `targets`, or adapters are there already.
    """
    peft = require_peft()
    if peft_of(model) is not None:
        raise ValueError("this model carries adapters already: train these, or merge them first")
    chosen = preset(model, where) if targets is None else Preset(targets, (), 16, 32)
    chosen = _without_quantized(model, chosen if whole is None else replace(chosen, whole=whole))
    size = chosen.rank if rank is None else rank
    own_alpha = chosen.alpha if rank is None else 2 * size
    config = peft.LoraConfig(
        r=size,
        lora_alpha=own_alpha if alpha is None else alpha,
        lora_dropout=chosen.dropout if dropout is None else dropout,
        target_modules=chosen.targets,
        modules_to_save=list(chosen.whole) or None,
    )
    wrapper = peft.get_peft_model(model, config)
    config.base_model_name_or_path = base  # peft would look for it in a transformers config
    remember(model, wrapper)
    return model


def _without_quantized(model: nn.Module, chosen: Preset) -> Preset:
    """Modules that would learn as they are get adapters in their place where they are quantised."""
    quantized = [
        (name, path)
        for path, module in model.named_modules()
        for name in chosen.whole
        if name in path.split(".") and isinstance(module, nn.Linear) and not module.weight.is_floating_point()
    ]
    if not quantized:
        return chosen
    targets = "|".join([f"(?:{chosen.targets})", *(re.escape(path) for _, path in quantized)])
    return replace(chosen, targets=targets, whole=tuple(set(chosen.whole) - {name for name, _ in quantized}))


def save_adapter(model: nn.Module, folder: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write the adapters as peft does, under the published names of the modules.

    Args:
        state: tensors of the model by name, in place of its own.
    """
    wrapper = peft_of(model)
    named = None if state is None else {f"base_model.model.{name}": tensor for name, tensor in state.items()}
    wrapper.save_pretrained(str(folder), state_dict=named, save_embedding_layers=False)
