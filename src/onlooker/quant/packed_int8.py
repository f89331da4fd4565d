"""Weights of 8 bits as torch's packed product takes them, for machines where the compiled product cannot be had.

torch has one scale for an output, and the largest of thousands of weights would set it for all of them. So the few
largest weights of each output stand beside, as floats, and the others are rounded once more with the finer steps that
are left: as few as the error of both roundings allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onlooker.quant.rounding import INT8_GROUP, dequantize_int8

_BESIDE = (8, 16, 32, 64, 128)  # weights of an output
_MOST_ERROR = 0.0095  # of the weights, relative: both roundings together
_BLOCK_VALUES = 1 << 22  # that are worked on at a time


@dataclass(frozen=True)
class PackedInt8:
    """A weight of [N, K]: `codes` times `scale`, and `values` at `places`, where the codes are 0."""

    codes: Tensor  # [N, K] int8
    scale: Tensor  # [N] bfloat16: torch takes scales in the dtype of the activations, and this is the same in all
    places: Tensor  # [N, weights beside] int32
    values: Tensor  # [N, weights beside] float32

    @classmethod
    def of(cls, codes: Tensor, scale: Tensor) -> PackedInt8:
        """
        Args:
            codes: [N, K] int8; K is a multiple of 64.
            scale: [N, K / 64] bfloat16.
        """
        beside = _BESIDE[-1]
        for count in _BESIDE:
            if _error(codes, scale, count) <= _MOST_ERROR:
                beside = count
                break
        beside = min(beside, codes.shape[1])
        parts = [_rounded_again(*part, beside) for part in _blocks(codes, scale)]
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def product(self, x: Tensor) -> Tensor:
        """[M, K] -> [M, N] in the dtype of x."""
        y = torch.ops.aten._weight_int8pack_mm(x, self.codes, self.scale.to(x.dtype))
        columns = x.t().float()
        if len(x) < 4:  # torch is slower with fewer
            columns = F.pad(columns, (0, 4 - len(x)))
        more = F.embedding_bag(self.places, columns.contiguous(), per_sample_weights=self.values, mode="sum")
        return (y + more[:, : len(x)].t()).to(x.dtype)


def _blocks(codes: Tensor, scale: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, _BLOCK_VALUES // codes.shape[1])
    return list(zip(codes.split(rows), scale.split(rows), strict=True))


def _error(codes: Tensor, scale: Tensor, beside: int) -> float:
    """Of both roundings, relative to the weights; judged by some of the outputs."""
    some = torch.linspace(0, len(codes) - 1, min(len(codes), 256)).long()
    codes, scale = codes[some], scale[some]
    exact = dequantize_int8(codes, scale, torch.float32)
    again, step, places, values = _rounded_again(codes, scale, min(beside, codes.shape[1]))
    wrong = (again.float() * step.float()[:, None]).scatter(1, places.long(), values).sub_(exact).square_().sum()
    # What the first rounding took away: an even share of a step.
    first = scale.float().square().sum() * INT8_GROUP / 12
    return float(((wrong + first) / exact.square().sum().clamp(min=1e-30)).sqrt())


def _rounded_again(codes: Tensor, scale: Tensor, beside: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, scale, places and values, as `PackedInt8` has them."""
    values = dequantize_int8(codes, scale, torch.float32)
    places = values.abs().topk(beside, 1).indices
    largest = values.gather(1, places)
    values.scatter_(1, places, 0)
    step = values.abs().amax(1, keepdim=True).div_(127).clamp_(min=1e-30).bfloat16()
    again = (values / step.float()).round_().clamp_(-127, 127).to(torch.int8)
    return again, step[:, 0].contiguous(), places.int(), largest
