"""What the linears of a model are made of: dtype, bytes, and which product they will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from onlooker.native import library
from onlooker.quant.linears import QuantizedLinear
from onlooker.quant.packed import PackedLinear


@dataclass(frozen=True)
class LinearWeights:
    """One linear: where it is, how its weight is kept, and who multiplies few rows with it."""

    path: str
    shape: tuple[int, int]  # outputs, inputs
    dtype: str  # "int8" and "int4" for quantised weights, else the name of the tensor's
    bytes: int  # weight, scales and bias
    kernel: str  # "native", "torch packed" or "torch"


def weight_report(model: Any) -> list[LinearWeights]:
    """Every linear of a model, in the order of its modules.

    Args:
        model: a model, or an `Onlooker` for the one in it.
    """
    model = model if isinstance(model, nn.Module) else model.model
    return [
        LinearWeights(path, (module.out_features, module.in_features), _dtype(module), _bytes(module), _kernel(module))
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, QuantizedLinear))
    ]


def _dtype(module: nn.Linear | QuantizedLinear) -> str:
    return getattr(module, "kind", str(module.weight.dtype).removeprefix("torch."))


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _kernel(module: nn.Linear | QuantizedLinear) -> str:
    if module.weight.device.type != "cpu":
        return "torch"
    if isinstance(module, QuantizedLinear):
        return "native" if library.has_integers() else "torch packed"
    if isinstance(module, PackedLinear) and module.weight.dtype == torch.bfloat16:
        return "native" if library.has_bf16() else "torch packed"
    return "torch"
