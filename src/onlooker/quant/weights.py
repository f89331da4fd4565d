"""Which linears of a model get weights of 8 or 4 bits, and how they are swapped while a checkpoint is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.quant.linears import Int4Linear, Int8Linear, QuantizedLinear

METHOD = "onlooker"
KINDS = ("int8", "int4")
_GROUP_SIZES = (64, 128)

#: The linears of each part, spelled out: what is not named here (heads, embeddings, projections between parts, whatever
#: a new kind of layer may bring) keeps its precision.
_LINEARS: dict[str, str | dict[str, str]] = {
    "language": {
        "opt": r"\bdecoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|fc[12])",
        "llama": r"(?<!encoder\.)\blayers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)",
        "t5": r"\bblock\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention|DenseReluDense)\.(q|k|v|o|wi|wi_0|wi_1|wo)",
    },
    "vision": r"\bencoder\.layers\.\d+\.(self_attn\.(qkv|projection|[qkv]_proj|out_proj)|mlp\.fc[12])",
    "qformer": r"\bencoder\.layer\.\d+\.(\w+\.)*(query|key|value|dense)",
}


@dataclass(frozen=True)
class WeightQuantization:
    """Bits of the linears of each part: "int8", "int4", or None for full precision.

    Args:
        language: the layers of the language model, never its head or embedding.
        vision: the layers of the vision transformer.
        qformer: the layers of the Q-Former.
        group_size: inputs that share a scale in int4: 64, or 128, which is a little smaller and less exact; in int8
            it is always 64.

    Raises:
        ValueError: a kind or a group size that does not exist.
    """

    language: str | None = None
    vision: str | None = None
    qformer: str | None = None
    group_size: int = 64

    def __post_init__(self) -> None:
        for part in _LINEARS:
            kind = getattr(self, part)
            if kind is not None and kind not in KINDS:
                raise ValueError(f"quantization of {part} is {kind!r}; it may be {', '.join(map(repr, KINDS))} or None")
        if self.group_size not in _GROUP_SIZES:
            raise ValueError(f"group_size {self.group_size}: int4 has groups of {' or '.join(map(str, _GROUP_SIZES))}")

    @classmethod
    def of(cls, value: str | Mapping[str, Any] | WeightQuantization | None) -> WeightQuantization | None:
        """Read what users and config.json give: "int8" (the language model), part -> kind, or None.

        Raises:
            ValueError: a part, a kind or a group size that does not exist.
        """
        if value is None or isinstance(value, WeightQuantization):
            return value
        if isinstance(value, str):
            return cls(language=value)
        fields = {name: each for name, each in value.items() if name != "quant_method"}
        unknown = set(fields) - {*_LINEARS, "group_size"}
        if unknown:
            raise ValueError(f"quantization names {', '.join(sorted(unknown))}; parts are {', '.join(_LINEARS)}")
        found = cls(**fields)
        return found if any(getattr(found, part) for part in _LINEARS) else None

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": METHOD, **asdict(self)}

    def kinds(self, model: nn.Module, text_model_type: str | None) -> dict[str, str]:
        """Path of each linear of the model that is meant -> "int8" or "int4".

        Args:
            text_model_type: "opt", "llama" or "t5"; there is no list for others.
        """
        found = {}
        linears: str | dict[str, str] | None
        for part, linears in _LINEARS.items():
            kind = getattr(self, part)
            if kind is None:
                continue
            if not isinstance(linears, str):
                linears = linears.get(text_model_type or "")
            if linears is None:
                continue
            pattern = re.compile(linears + "$")
            for path, module in model.named_modules():
                if isinstance(module, nn.Linear) and pattern.search(path):
                    found[path] = kind
        return found


def replace_linears(model: nn.Module, config: WeightQuantization, text_model_type: str | None) -> list[str]:
    """Swap linears for empty ones of fewer bits; their weights are to come by `store_quantized` or as stored.

    Returns:
        The paths that were swapped.
    """
    kinds = config.kinds(model, text_model_type)
    for path, kind in kinds.items():
        parent, _, leaf = path.rpartition(".")
        old: Any = model.get_submodule(path)
        bias = None if old.bias is None else old.bias.detach()
        with torch.device(old.weight.device):
            new: QuantizedLinear
            if kind == "int8":
                new = Int8Linear(old.in_features, old.out_features, bias)
            else:
                new = Int4Linear(old.in_features, old.out_features, bias, config.group_size)
        setattr(model.get_submodule(parent), leaf, new.train(old.training))
    return list(kinds)


def store_quantized(owner: nn.Module, leaf: str, value: Tensor, device: torch.device) -> bool:
    """Quantise a weight into its swapped layer; False when the layer is an ordinary one."""
    if leaf != "weight" or not isinstance(owner, QuantizedLinear):
        return False
    owner.store(value, device)
    return True


def is_weight_quantized(model: nn.Module) -> bool:
    return any(isinstance(module, QuantizedLinear) for module in model.modules())
