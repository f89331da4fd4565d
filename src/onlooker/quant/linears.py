"""Linears with weights of 8 or 4 bits, which take the fastest product that the machine and the number of rows allow.

The stored weight is what is kept in memory, plain, so that a mapped file serves as it is:

- few rows (decoding): the compiled product; without it torch's packed products, which keep activations as they are;
- many rows (prompts, pictures): int8 rounds each row of activations to 8 bits and multiplies integers, int4 makes
  floats of some weights at a time;
- gradients, other devices, odd sizes: the weights as floats in an ordinary linear.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.native import products
from onlooker.quant.rounding import (
    dequantize_int4,
    dequantize_int8,
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
        if not (x.is_cpu and self.weight.is_cpu and x.is_floating_point()) or x.numel() == 0:
            return False
        if x.shape[-1] != self.in_features or type(x) not in (Tensor, nn.Parameter):
            return False
        if torch.is_grad_enabled() and (x.requires_grad or (self.bias is not None and self.bias.requires_grad)):
            return False
        return not torch.compiler.is_compiling() and x.dtype != torch.float64

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        kept = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        super()._apply(fn, recurse)
        for name, before in kept.items():  # a scale that was rounded to float16 would change the weights
            after = self._buffers[name]
            if after is not None and after.dtype != before.dtype:
                self._buffers[name] = before.to(after.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Int8Linear(QuantizedLinear):
    """weight [N, K] int8, weight_scale [N] float32."""

    kind = "int8"
    weight_scale: Tensor

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None = None) -> None:
        super().__init__(in_features, out_features, bias)
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features))

    def store(self, weight: Tensor, device: torch.device) -> None:
        codes, scale = quantize_int8(weight)
        self.weight, self.weight_scale = codes.to(device), scale.to(device)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        return dequantize_int8(self.weight, self.weight_scale, dtype)

    def _product(self, x: Tensor) -> Tensor | None:
        rows = x.numel() // self.in_features
        if rows <= products.INT8_ROWS and products.has_integers():
            y = products.int8(x, self.weight, self.weight_scale, self.bias)
            if y is not None:
                return y
        if self.in_features % 16:  # torch 2.13 reads past the ends of such rows, and errs with a single input
            return None
        return self._weights_only(x) if rows <= _TORCH_ROWS else self._both_rounded(x)

    def _weights_only(self, x: Tensor) -> Tensor:
        flat = x.detach().reshape(-1, self.in_features).contiguous()
        y = torch.ops.aten._weight_int8pack_mm(flat, self.weight, self.weight_scale.to(x.dtype))
        y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self._bias(x)

    def _both_rounded(self, x: Tensor) -> Tensor:
        flat = x.detach().reshape(-1, self.in_features).float()
        scale = flat.abs().amax(1, keepdim=True).div_(127).clamp_(min=1e-30)  # of each row
        rounded = (flat / scale).round_().to(torch.int8)
        y = torch._int_mm(rounded, self.weight.t()).float().mul_(scale).mul_(self.weight_scale)
        if self.bias is not None:
            y += self.bias
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)


class Int4Linear(QuantizedLinear):
    """weight [N, padded K / 2] uint8, weight_scale and weight_zero [N, padded K / group_size] bfloat16."""

    kind = "int4"
    weight_scale: Tensor
    weight_zero: Tensor
    _packed: tuple[Tensor, Tensor] | None = None  # what torch's product wants, made at its first use

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
        rows = x.numel() // self.in_features
        if rows <= products.INT4_ROWS and products.has_integers():
            y = products.int4(x, self.weight, self.weight_scale, self.weight_zero, self.bias, self.group_size)
            if y is not None:
                return y
        if rows > _TORCH_ROWS:
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

    def _in_blocks(self, x: Tensor) -> Tensor:
        """Some outputs at a time: their weights as floats stay in the processor's cache, and in one place in memory."""
        flat = x.detach().reshape(-1, self.in_features)
        y = torch.empty(len(flat), self.out_features, dtype=x.dtype)
        buffer = torch.empty(min(_BLOCK, self.out_features), self.in_features, dtype=x.dtype)
        is_native = x.dtype == torch.bfloat16 and products.has_integers()
        for start in range(0, self.out_features, _BLOCK):
            block = slice(start, min(start + _BLOCK, self.out_features))
            codes, scale, zero = self.weight[block], self.weight_scale[block], self.weight_zero[block]
            if is_native:
                weight = products.int4_values(codes, scale, zero, buffer[: len(codes)], self.group_size)
            else:
                weight = dequantize_int4(codes, scale, zero, self.in_features, x.dtype)
            bias = None if self.bias is None else self.bias[block].to(x.dtype)
            y[:, block] = F.linear(flat, weight, bias)
        return y.view(*x.shape[:-1], self.out_features)

    def _pack(self) -> tuple[Tensor, Tensor]:
        """The codes in the order of torch's product, made piece by piece, and [groups, N, 2] scales and zeros."""
        convert = torch.ops.aten._convert_weight_to_int4pack_for_cpu
        pieces = [convert(unpack_int4(part).int(), 1) for part in self.weight.split(256)]
        scales = torch.stack([self.weight_scale.t(), self.weight_zero.t()], -1).contiguous()
        return torch.cat(pieces), scales

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        self._packed = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args, **kwargs)
