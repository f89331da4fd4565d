"""Calls the compiled attention with tensors."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from onlooker.native.library import has_bf16, kernels
from onlooker.native.tensors import are_plain


def can_attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> bool:
    """Whether `attention` takes these: plain tensors in bfloat16 whose sizes fit; others are for torch."""
    if not q.dtype == k.dtype == v.dtype == torch.bfloat16 or not are_plain(q, k, v, mask):
        return False
    if q.numel() == 0 or k.numel() == 0 or not q.stride(-1) == k.stride(-1) == v.stride(-1) == 1:
        return False
    fits = k.shape == v.shape and len(q) == len(k) and q.shape[1] % k.shape[1] == 0 and q.shape[3] == k.shape[3]
    return fits and has_bf16()


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, is_causal: bool = False) -> Tensor:
    """softmax(q kᵀ · scale + mask) v; scores and sums are float32, the result is rounded once.

    Args:
        q: [B, H, T, K] bfloat16.
        k, v: [B, Hkv, S, K] bfloat16; H is a multiple of Hkv. Of all three the numbers of a head lie side by side.
        mask: added to the scores, broadcast to [B, H, T, S].
        is_causal: position t sees keys up to S - T + t.

    Returns:
        [B, T, H, K].

    Raises:
        MemoryError: there is no room for the keys and values of a head.
    """
    batch, heads, positions, width = q.shape
    length = k.shape[2]
    out = torch.empty(batch, positions, heads, width, dtype=q.dtype, device=q.device)
    steps: tuple[int, ...] = (0, 0, 0)
    if mask is not None:
        mask = mask if mask.dtype == torch.bfloat16 else mask.float()
        if mask.shape[-1:] != (length,) or mask.stride(-1) != 1:
            mask = mask.expand(*mask.shape[:-1], length).contiguous()
        mask = mask.expand(batch, heads, positions, length)
        steps = mask.stride()[:3]
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *steps)
    sizes = (batch, heads, k.shape[1], positions, length, width, *strides)
    done = kernels().onlooker_attention(
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
    if not done:
        raise MemoryError(f"no memory for attention of {positions} positions to {length}; ask with fewer tokens")
    return out
