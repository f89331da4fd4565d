"""Rounds weights to 8 or 4 bits with the least squared error that a small search finds, and back.

A weight of 8 bits is code · scale, with a scale for every 64 inputs. One of 4 bits is (code - 8) · scale + zero, with
both for every group of inputs; 64 bytes hold 128 codes, the first 64 in the low halves. Letters: N outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

#: Inputs of a stored row are filled up to a multiple of this.
CHUNK = 128
#: Inputs that share a scale in 8 bits.
INT8_GROUP = 64
_BLOCK_VALUES = 1 << 18  # what is worked on at a time stays in the processor's cache

# The codes that the largest of a group may get. Within reach of a scale that bfloat16 has, the luck of 64 roundings
# differs by a tenth; nothing is clipped.
_INT8_LARGEST = tuple(127.4 - 0.7 * number for number in range(12))
# How much of the range is kept at each end: what lies outside is clipped, what lies inside gets finer steps.
_INT4_ENDS = (1.0, 0.9, 0.8, 0.7, 0.6)
_INT4_REFITS = 4


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round to 8 bits.

    Args:
        weight: [N, K], any floating dtype.

    Returns:
        Codes [N, K] int8 in -127..127, and scales [N, groups of 64 inputs] bfloat16.

    Raises:
        ValueError: a weight is not finite.
    """
    groups = int8_groups(weight.shape[1])
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight), groups, dtype=torch.bfloat16)
    for rows in _blocks(weight):
        values = F.pad(_finite(weight[rows]), (0, groups * INT8_GROUP - weight.shape[1])).view(-1, INT8_GROUP)
        largest = values.abs().amax(1, keepdim=True)
        best_error = torch.full_like(largest, torch.inf)
        best_scale = torch.ones_like(largest)
        for code in _INT8_LARGEST:
            scale = _kept((largest / code).clamp(min=1e-30))
            error = (_to_int8(values, scale) * scale - values).square_().sum(1, keepdim=True)
            is_better = error < best_error
            best_error = torch.where(is_better, error, best_error)
            best_scale = torch.where(is_better, scale, best_scale)
        codes[rows] = _to_int8(values, best_scale).view(-1, groups * INT8_GROUP)[:, : weight.shape[1]].to(torch.int8)
        scales[rows] = best_scale.view(-1, groups)
    return codes, scales


def int8_groups(inputs: int) -> int:
    return -(-inputs // INT8_GROUP)


def _to_int8(values: Tensor, scale: Tensor) -> Tensor:
    return (values / scale).round_().clamp_(-127, 127)


def dequantize_int8(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, K] in `dtype`."""
    return codes.to(dtype) * scale.to(dtype).repeat_interleave(INT8_GROUP, 1)[:, : codes.shape[1]]


def quantize_int4(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Round to 4 bits.

    Args:
        weight: [N, K], any floating dtype.
        group_size: inputs that share scale and zero: 64 or 128.

    Returns:
        Codes [N, padded K / 2] uint8, scales and zeros [N, padded K / group_size] bfloat16.

    Raises:
        ValueError: a weight is not finite.
    """
    outputs, inputs = weight.shape
    padded = padded_inputs(inputs)
    codes = torch.empty(outputs, padded // 2, dtype=torch.uint8)
    scales = torch.empty(outputs, padded // group_size, dtype=torch.bfloat16)
    zeros = torch.empty_like(scales)
    for rows in _blocks(weight):
        values = F.pad(_finite(weight[rows]), (0, padded - inputs)).view(-1, group_size)
        scale, zero = _best_grid(values)
        chunks = _to_int4(values, scale, zero).to(torch.uint8).view(-1, padded // CHUNK, 2, CHUNK // 2)
        codes[rows] = (chunks[:, :, 0] | (chunks[:, :, 1] << 4)).flatten(1)
        scales[rows], zeros[rows] = scale.view(-1, padded // group_size), zero.view(-1, padded // group_size)
    return codes, scales, zeros


def padded_inputs(inputs: int) -> int:
    return -(-inputs // CHUNK) * CHUNK


def _best_grid(values: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero [G, 1] of groups [G, K]: the best of a few ranges, then fitted to its own codes and back.

    The numbers are those that bfloat16 keeps, so that the codes are chosen for what will be multiplied.
    """
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    best_error = torch.full_like(low, torch.inf)
    best_scale, best_zero = torch.ones_like(low), torch.zeros_like(low)

    def offer(scale: Tensor, zero: Tensor) -> None:
        nonlocal best_error, best_scale, best_zero
        scale, zero = _kept(scale.clamp(min=1e-30)), _kept(zero)
        error = ((_to_int4(values, scale, zero) - 8) * scale + zero - values).square_().sum(1, keepdim=True)
        is_better = error < best_error
        best_error = torch.where(is_better, error, best_error)
        best_scale, best_zero = torch.where(is_better, scale, best_scale), torch.where(is_better, zero, best_zero)

    for below, above in product(_INT4_ENDS, _INT4_ENDS):
        first, last = low * below, high * above
        scale = (last - first) / 15
        offer(scale, (first + last) / 2 + 0.5 * scale)  # code 8 stands half a step above the middle of 0..15
    center = values.mean(1, keepdim=True)
    for _ in range(_INT4_REFITS):  # the straight line of least squares through (code, value)
        steps = _to_int4(values, best_scale, best_zero) - 8
        mean = steps.mean(1, keepdim=True)
        spread = (steps - mean).square().sum(1, keepdim=True).clamp(min=1e-30)
        scale = ((steps - mean) * (values - center)).sum(1, keepdim=True) / spread
        offer(scale, center - scale * mean)
    return best_scale, best_zero


def _to_int4(values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return ((values - zero) / scale).round_().add_(8).clamp_(0, 15)


def _kept(values: Tensor) -> Tensor:
    return values.bfloat16().float()


def unpack_int4(codes: Tensor) -> Tensor:
    """[N, padded K / 2] -> [N, padded K] uint8 in 0..15."""
    chunks = codes.view(len(codes), -1, CHUNK // 2)
    return torch.cat([chunks & 15, chunks >> 4], -1).flatten(1)


def dequantize_int4(codes: Tensor, scale: Tensor, zero: Tensor, inputs: int, dtype: torch.dtype) -> Tensor:
    """[N, inputs] in `dtype`."""
    weight = torch.empty(len(codes), inputs, dtype=dtype, device=codes.device)
    for rows in _blocks(weight):
        steps = (unpack_int4(codes[rows]).to(dtype) - 8).view(*scale[rows].shape, -1)
        values = torch.addcmul(zero[rows].to(dtype)[..., None], steps, scale[rows].to(dtype)[..., None])
        weight[rows] = values.flatten(1)[:, :inputs]
    return weight


def _blocks(weight: Tensor) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // max(1, weight.shape[1]))
    return (slice(start, start + step) for start in range(0, len(weight), step))


def _finite(values: Tensor) -> Tensor:
    values = values.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("A weight is NaN or infinite: the checkpoint is damaged, or overflowed in training.")
    return values
