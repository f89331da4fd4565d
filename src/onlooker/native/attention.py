"""Calls the compiled attention with tensors."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from onlooker.native.library import has_bf16, kernels


def can_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether `attention` takes these: bfloat16 on a CPU that nobody differentiates or traces."""
    if not (q.is_cpu and q.dtype == k.dtype == v.dtype == torch.bfloat16) or q.numel() == 0 or k.numel() == 0:
        return False
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (q, k, v, mask)):
        return False
    is_plain = q.stride(-1) == k.stride(-1) == v.stride(-1) == 1 and (mask is None or mask.dim() == 4)
    return is_plain and not torch.compiler.is_compiling() and has_bf16()


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, is_causal: bool = False) -> Tensor:
    """softmax(q kᵀ · scale + mask) v; scores and sums are float32, the result is rounded once.

    Args:
        q: [B, H, T, K] bfloat16.
        k, v: [B, Hkv, S, K] bfloat16; H is a multiple of Hkv. Of all three the numbers of a head lie side by side.
        mask: [B or 1, H or 1, T or 1, S], added to the scores.
        is_causal: position t sees keys up to S - T + t.

    Returns:
        [B, T, H, K].
    """
    batch, heads, positions, width = q.shape
    out = torch.empty(batch, positions, heads, width, dtype=q.dtype)
    steps = [0, 0, 0]
    if mask is not None:
        mask = (mask if mask.dtype == torch.bfloat16 else mask.float()).contiguous()
        steps = [0 if size == 1 else step for size, step in zip(mask.shape[:3], mask.stride()[:3])]
    sizes = [batch, heads, k.shape[1], positions, k.shape[2], width]
    sizes += [*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *steps]
    kernels().onlooker_attention(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        None if mask is None else mask.data_ptr(),
        out.data_ptr(),
        (ctypes.c_int64 * len(sizes))(*sizes),
        scale,
        is_causal,
        mask is not None and mask.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return out
