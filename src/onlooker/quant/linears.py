"""Linears with weights of 8 or 4 bits, which take the fastest product that the machine and the number of rows allow.

The stored weight is what is kept in memory, plain, so that a mapped file serves as it is:

- the compiled products, which round activations to 8 bits for every 64 inputs;
- without them torch's packed products for few rows (decoding), and floats of some weights at a time for many (prompts,
  pictures);
- gradients, other devices, odd sizes: the weights as floats in an ordinary linear.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.native import library, products
from onlooker.native.tensors import are_plain
from onlooker.quant.packed_int8 import PackedInt8
from onlooker.quant.rounding import (
    dequantize_int4,
    dequantize_int8,
    int8_groups,
    padded_inputs,
    quantize_int4,
    quantize_int8,
    unpack_int4,
)

#: Rows up to which torch's packed products of weights alone beat what is done for many rows.
_TORCH_ROWS = 12
_BLOCK = 512


class QuantizedLinear(nn.Module):
    """What both kinds share. Weights are buffers: they do not learn, and casts of the model leave them as they are."""

    in_features: int
    out_features: int
    weight: Tensor
    bias: Tensor | None
    _packed: Any = None  # a copy as torch's products want it, made at their first use

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weights [N, K] as floats."""
        raise NotImplementedError

    def store(self, weight: Tensor, device: torch.device) -> None:
        """Take weights [N, K] over, rounded."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self._product(x) if self._is_plain(x) else None
        return F.linear(x, self.dequantize(x.dtype), self._bias(x)) if y is None else y

    def _product(self, x: Tensor) -> Tensor | None:
        raise NotImplementedError

    def _bias(self, x: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias.to(x.dtype)

    def _is_plain(self, x: Tensor) -> bool:
        """Whether x is an ordinary tensor of the CPU that nobody differentiates or traces."""
        if not x.is_floating_point() or x.dtype == torch.float64 or x.shape[-1] != self.in_features or x.numel() == 0:
            return False
        return are_plain(x, self.weight, self.bias)

    def _block(self, rows: slice, out: Tensor) -> Tensor:
        """The weights of some outputs as floats, in `out` or elsewhere."""
        raise NotImplementedError

    def _in_blocks(self, x: Tensor) -> Tensor:
        """Some outputs at a time: their weights as floats stay in the processor's cache, and in one place in memory."""
        flat = x.detach().reshape(-1, self.in_features)
        y = torch.empty(len(flat), self.out_features, dtype=x.dtype)
        buffer = torch.empty(min(_BLOCK, self.out_features), self.in_features, dtype=x.dtype)
        for start in range(0, self.out_features, _BLOCK):
            rows = slice(start, min(start + _BLOCK, self.out_features))
            bias = None if self.bias is None else self.bias[rows].to(x.dtype)
            y[:, rows] = F.linear(flat, self._block(rows, buffer[: rows.stop - start]), bias)
        return y.view(*x.shape[:-1], self.out_features)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        self._packed = None
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, before in kept.items():  # a scale that was rounded to float16 would change the weights
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = None
        kept = {name: buffer.dtype for name, buffer in self._buffers.items() if buffer is not None}
        super()._load_from_state_dict(*args, **kwargs)
        for name, dtype in kept.items():  # assigned tensors may be anything; products read bytes side by side
            self._buffers[name] = self._buffers[name].to(dtype).contiguous()  # type: ignore[union-attr]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the packed weight out."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantizedLinear):
    """weight [N, K] int8, weight_scale [N, groups of 64 inputs] bfloat16."""

    kind = "int8"
    weight_scale: Tensor
    _packed: PackedInt8 | None = None

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None = None) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features, int8_groups(in_features), dtype=torch.bfloat16))

    def store(self, weight: Tensor, device: torch.device) -> None:
        codes, scale = quantize_int8(weight)
        self.weight, self.weight_scale = codes.to(device), scale.to(device)
        self._packed = None

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        return dequantize_int8(self.weight, self.weight_scale, dtype)

    def _product(self, x: Tensor) -> Tensor | None:
        if library.has_integers():
            return products.int8(x, self.weight, self.weight_scale, self.bias)
        if x.numel() > _TORCH_ROWS * self.in_features:
            return self._in_blocks(x)
        if self.in_features % 64:
            return None
        if self._packed is None:
            self._packed = PackedInt8.of(self.weight, self.weight_scale)
        flat = x.detach().reshape(-1, self.in_features).contiguous()
        y, bias = self._packed.product(flat).view(*x.shape[:-1], self.out_features), self._bias(x)
        return y if bias is None else y + bias

    def _block(self, rows: slice, out: Tensor) -> Tensor:
        return dequantize_int8(self.weight[rows], self.weight_scale[rows], out.dtype)


class Int4Linear(QuantizedLinear):
    """weight [N, padded K / 2] uint8, weight_scale and weight_zero [N, padded K / group_size] bfloat16."""

    kind = "int4"
    weight_scale: Tensor
    weight_zero: Tensor
    _packed: tuple[Tensor, Tensor] | None = None

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None = None, group_size: int = 64) -> None:
        super().__init__(in_features, out_features, bias)
        self.group_size = group_size
        padded = padded_inputs(in_features)
        self.register_buffer("weight", torch.zeros(out_features, padded // 2, dtype=torch.uint8))
        self.register_buffer("weight_scale", torch.ones(out_features, padded // group_size, dtype=torch.bfloat16))
        self.register_buffer("weight_zero", torch.zeros(out_features, padded // group_size, dtype=torch.bfloat16))

    def store(self, weight: Tensor, device: torch.device) -> None:
        codes, scale, zero = quantize_int4(weight, self.group_size)
        self.weight, self.weight_scale, self.weight_zero = codes.to(device), scale.to(device), zero.to(device)
        self._packed = None

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        return dequantize_int4(self.weight, self.weight_scale, self.weight_zero, self.in_features, dtype)

    def _product(self, x: Tensor) -> Tensor | None:
        if library.has_integers():
            return products.int4(x, self.weight, self.weight_scale, self.weight_zero, self.bias, self.group_size)
        if x.numel() > _TORCH_ROWS * self.in_features:
            return self._in_blocks(x)
        if self.out_features % 16 or self.in_features != padded_inputs(self.in_features):
            return None
        if self._packed is None:
            self._packed = self._pack()
        codes, scales = self._packed
        flat = x.detach().reshape(-1, self.in_features).contiguous()
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, codes, self.group_size, scales.to(x.dtype))
        y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self._bias(x)

    def _block(self, rows: slice, out: Tensor) -> Tensor:
        codes, scale, zero = self.weight[rows], self.weight_scale[rows], self.weight_zero[rows]
        return dequantize_int4(codes, scale, zero, self.in_features, out.dtype)

    def _pack(self) -> tuple[Tensor, Tensor]:
        """The codes in the order of torch's product, made piece by piece, and [groups, N, 2] scales and zeros."""
        convert = torch.ops.aten._convert_weight_to_int4pack_for_cpu
        pieces = [convert(unpack_int4(part).int(), 1) for part in self.weight.split(256)]
        scales = torch.stack([self.weight_scale.t(), self.weight_zero.t()], -1).contiguous()
        return torch.cat(pieces), scales
