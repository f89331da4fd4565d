"""Decides in which dtype each tensor of a model is loaded: one dtype, one per part, or a named policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_SPELLINGS = {
    "float32": torch.float32,
    "float": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "half": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float64": torch.float64,
    "double": torch.float64,
}
#: Names that stand for more than one dtype and are asked of the model.
POLICIES = ("reference", "default")

DtypeLike = str | torch.dtype | Mapping[str, Any]


@dataclass(frozen=True)
class DtypePlan:
    """The dtype of every floating-point tensor by name."""

    default: torch.dtype | None = torch.float32  # None: as stored
    by_prefix: Mapping[str, torch.dtype] = field(default_factory=dict)
    #: dtype -> regexes, searched in the names of tensors that would get it: these stay float32
    keep_in_fp32: Mapping[torch.dtype, Sequence[str]] = field(default_factory=dict)

    def dtype_of(self, name: str, stored: torch.dtype) -> torch.dtype:
        """The dtype for a tensor that is stored as `stored`; integers stay what they are."""
        if not stored.is_floating_point:
            return stored
        wanted = self.default or stored
        parts = [prefix for prefix in self.by_prefix if prefix == "" or name == prefix or name.startswith(prefix + ".")]
        if parts:
            wanted = self.by_prefix[max(parts, key=len)]
        return torch.float32 if self.keeps_fp32(name, wanted) else wanted

    def keeps_fp32(self, name: str, beside: torch.dtype = torch.float16) -> bool:
        """Whether a tensor stays float32 in a model of another dtype."""
        return any(re.search(pattern, name) for pattern in self.keep_in_fp32.get(beside, ()))


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Read a dtype from any of its usual spellings.

    Raises:
        ValueError: not a floating-point dtype.
    """
    if isinstance(dtype, torch.dtype):
        found = dtype if dtype.is_floating_point else None
    else:
        found = _SPELLINGS.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(
            f"dtype {dtype!r} is not known. Give a torch.dtype, one of {', '.join(_SPELLINGS)}, 'auto', a policy "
            f"({', '.join(POLICIES)}), or a mapping from module prefix to dtype."
        )
    return found


def parse_mapping(dtypes: Mapping[str, Any], names: Sequence[str]) -> dict[str, torch.dtype]:
    """Check a mapping from module prefix to dtype against the names of a model's tensors.

    Raises:
        ValueError: a prefix fits no tensor, or a dtype is not known.
    """
    for prefix in dtypes:
        if prefix and not any(name == prefix or name.startswith(prefix + ".") for name in names):
            roots = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise ValueError(f"dtype mapping: the model has no part {prefix!r}. Its parts are {roots}; '' is the rest.")
    return {prefix: parse_dtype(dtype) for prefix, dtype in dtypes.items()}


def default_dtype(device: torch.device, *, is_t5: bool = False) -> torch.dtype:
    """The dtype that suits the hardware: bfloat16 where it is native, else float16 on CUDA and float32 elsewhere.

    T5 overflows in float16 and gets float32 there.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float32 if is_t5 else torch.float16
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_has_bf16() -> bool:
    return any(getattr(torch.cpu, test, bool)() for test in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def reference_dtypes(text_model_type: str | None) -> dict[str, torch.dtype]:
    """Each part of the BLIP families in the dtype it was trained in.

    The LAVIS training code runs the frozen vision tower in float16, the Q-Former and its projections in float32, OPT
    (and LLaMA) in float16 and T5 in bfloat16.
    """
    language = torch.bfloat16 if text_model_type == "t5" else torch.float16
    return {"": torch.float32, "vision_model": torch.float16, "language_model": language}


def describe_dtypes(model: nn.Module) -> str:
    """One line that says which part of a model is in which dtype, to be shown to a user."""
    parts: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        sizes = parts.setdefault(name.split(".")[0], {})
        dtype = str(parameter.dtype).removeprefix("torch.")
        sizes[dtype] = sizes.get(dtype, 0) + parameter.numel()
    found = {part: " + ".join(sorted(sizes, key=lambda dtype: -sizes[dtype])) for part, sizes in parts.items()}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{part} {dtypes}" for part, dtypes in found.items())


def main_dtype(model: nn.Module) -> torch.dtype | None:
    """The floating-point dtype that most values of a model have: what its config.json should say."""
    sizes: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point:
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else None
