"""Calls the compiled products of linears with tensors; ask `library` first whether they can be had.

Where a function says by None that it cannot, torch does the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from onlooker.native.library import kernels

#: Up to so many rows of bfloat16 a product mostly waits for memory; without the compiled one, packing pays there.
FEW_ROWS = 8
#: Up to so many rows the compiled product is faster than torch's, which lays weights out first.
SOME_ROWS = 48
_PAGE = 4096 // 2  # numbers
#: From so many rows on, weights of fewer bits are laid out in panels here.
_INT8_PANELS, _INT4_PANELS = 5, 12


def bf16(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weightᵀ + bias in bfloat16, summed in float32 and rounded once.

    Args:
        x: [..., K], contiguous or not.
        weight: [N, K], contiguous.
    """
    rows = _rows(x)
    if len(rows) > FEW_ROWS and rows.shape[1] % _PAGE == 0:
        # A line further: rows that are whole pages apart share the few places a cache has for them.
        rows = F.pad(rows, (0, 32))
    y = torch.empty(*x.shape[:-1], len(weight), dtype=x.dtype, device=x.device)
    bias = None if bias is None else bias.contiguous()
    kernels().onlooker_bf16(
        rows.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        len(rows),
        *weight.shape,
        rows.shape[1],
        torch.get_num_threads(),
    )
    return y


def int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor | None:
    """x (weight · scale)ᵀ + bias; None when x has values that are not finite, or memory is short.

    Args:
        x: [..., K] of any floating dtype, which the result has too.
        weight: [N, K] int8.
        scale: [N, groups of 64 inputs] bfloat16.
    """
    rows = _rows(x)
    rows = rows if rows.dtype == torch.bfloat16 else rows.float()
    y = torch.empty(*x.shape[:-1], len(weight), dtype=rows.dtype, device=x.device)
    more = None if bias is None else bias.float().contiguous()
    done = kernels().onlooker_int8(
        rows.data_ptr(),
        weight.data_ptr(),
        scale.data_ptr(),
        None if more is None else more.data_ptr(),
        y.data_ptr(),
        len(rows),
        *weight.shape,
        rows.dtype == torch.bfloat16,
        _INT8_PANELS,
        torch.get_num_threads(),
    )
    return y.to(x.dtype) if done else None


def int4(x: Tensor, weight: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None, group: int) -> Tensor | None:
    """x ((codes - 8) · scale + zero)ᵀ + bias; None when x has values that are not finite, or memory is short.

    Args:
        x: [..., K] of any floating dtype, which the result has too.
        weight: [N, bytes] uint8, 128 codes in 64 bytes.
        scale, zero: [N, groups] bfloat16.
        group: 64 or 128 inputs.
    """
    rows = _rows(x)
    rows = rows if rows.dtype == torch.bfloat16 else rows.float()
    y = torch.empty(*x.shape[:-1], len(weight), dtype=rows.dtype, device=x.device)
    more = None if bias is None else bias.float().contiguous()
    done = kernels().onlooker_int4(
        rows.data_ptr(),
        weight.data_ptr(),
        scale.data_ptr(),
        zero.data_ptr(),
        None if more is None else more.data_ptr(),
        y.data_ptr(),
        len(rows),
        len(weight),
        rows.shape[1],
        group,
        rows.dtype == torch.bfloat16,
        _INT4_PANELS,
        torch.get_num_threads(),
    )
    return y.to(x.dtype) if done else None


def _rows(x: Tensor) -> Tensor:
    """[M, K], contiguous."""
    return x.detach().reshape(-1, x.shape[-1]).contiguous()
