"""Scaled dot-product attention: the only file that knows eager, sdpa and flash back-ends.

Letters: B batch, H heads, T query positions, S key positions, K head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from onlooker.native.attention import attention, can_attend

IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    implementation: str = "sdpa",
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """softmax(q kᵀ · scale + mask) v, with the heads joined again.

    Args:
        q: [B, H, T, K].
        k, v: [B, Hkv, S, K]; H is a multiple of Hkv (grouped queries share a key head).
        mask: added to the scores, broadcast to [B, H, T, S]; 4-D, in the dtype of q.
        is_causal: query t sees keys 0..t; needs T == S and no mask.
        scale: defaults to K ** -0.5.
        dropout: probability, on the attention weights; 0 outside training.
        head_mask: multiplies the weights, broadcast to [B, H, 1, 1]; takes the eager path.
        need_weights: also give the weights [B, H, T, S], before head_mask and dropout; takes the eager path.

    Returns:
        The output [B, T, H * K] and the weights or None.

    Raises:
        ValueError: a boolean mask, or is_causal with a mask or T != S: back-ends would each make something else of it.
    """
    if mask is not None and mask.dtype == torch.bool:
        raise ValueError("the mask is boolean; it is added to the scores, so bring it through nn.masks.additive first")
    if is_causal and (mask is not None or q.shape[2] != k.shape[2]):
        raise ValueError(
            f"is_causal is for as many queries as keys without a mask, not {q.shape[2]} queries, {k.shape[2]} keys and "
            f"{'no' if mask is None else 'a'} mask; give a mask made by nn.masks.causal_mask"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if need_weights or head_mask is not None or implementation == "eager":
        out, weights = _eager(q, k, v, mask, is_causal, scale, dropout, head_mask)
        return _join(out), weights if need_weights else None
    # Its kernels know half precision only; what a recipe keeps in float32 (a Q-Former) takes torch's own.
    if implementation == "flash_attention_2" and mask is None and q.dtype in (torch.float16, torch.bfloat16):
        return _flash(q, k, v, is_causal, scale, dropout).flatten(2), None
    if not dropout and can_attend(q, k, v, mask):
        return attention(q, k, v, mask, scale, is_causal).flatten(2), None
    if q.shape[2] == 1 and q.device.type == "cpu" and q.dtype != torch.float32 and not dropout:
        return _join(_one_query(q, k, v, mask, scale)), None
    is_grouped = bool(k.shape[1] != q.shape[1])  # a tensor where torch.jit traces
    out = F.scaled_dot_product_attention(
        q, k, v, mask, dropout_p=dropout, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
    )
    return _join(out), None


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """[B, T, H * K] -> [B, H, T, K]."""
    if x.shape[1] == 1:
        return x.view(len(x), num_heads, 1, -1)
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def _join(out: Tensor) -> Tensor:
    if out.shape[2] == 1:
        return out.reshape(len(out), 1, -1)
    return out.transpose(1, 2).flatten(2)  # [B, T, H * K]


def _eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
    dropout: float,
    head_mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = (q @ k.transpose(-1, -2)) * scale
    if mask is not None:
        scores = scores + mask
    if is_causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    kept = F.dropout(weights, dropout) if dropout else weights
    if head_mask is not None:
        kept = kept * head_mask
    return kept @ v, weights


def _one_query(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """One position against a long cache: in half precision two batched products beat the fused kernel on a CPU."""
    batch, heads, _, width = q.shape
    kv_heads, length = k.shape[1:3]
    grouped = (q * scale).view(batch, kv_heads, heads // kv_heads, width)
    # Keys times a query, and not the other way round: torch reads a long matrix row by row then, twice as fast.
    scores = (k @ grouped.transpose(-1, -2)).transpose(-1, -2)  # [B, Hkv, H / Hkv, S]
    if mask is not None:
        repeats = 1 if mask.shape[1] == 1 else heads // kv_heads
        scores = scores + mask.expand(batch, -1, 1, length).reshape(batch, -1, repeats, length)
    return (scores.softmax(-1) @ v).view(batch, heads, 1, -1)


def _flash(q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float, dropout: float) -> Tensor:
    from flash_attn import flash_attn_func

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # flash wants [B, T, H, K]
    return flash_attn_func(q, k, v, dropout_p=dropout, softmax_scale=scale, causal=is_causal)


def check_implementation(name: str) -> str:
    """Give the name back when that back-end can run here.

    Raises:
        ValueError: a name that is not one of IMPLEMENTATIONS.
        ImportError: flash_attention_2 without the flash-attn package or without a CUDA device.
    """
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"attn_implementation is {name!r}; it may be {', '.join(IMPLEMENTATIONS)}")
    if name == "flash_attention_2":
        import importlib.util

        what_to_do = (
            "Use attn_implementation='sdpa', or install it on a machine with a CUDA GPU: "
            "pip install flash-attn --no-build-isolation"
        )
        if importlib.util.find_spec("flash_attn") is None:
            raise ImportError(f"flash_attention_2 needs the package flash-attn, which is not installed. {what_to_do}")
        if not torch.cuda.is_available():
            raise ImportError(f"flash_attention_2 needs a CUDA GPU, and there is none. {what_to_do}")
    return name
