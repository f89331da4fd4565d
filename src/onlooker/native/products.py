"""Calls the compiled products with tensors; says by None that it cannot, and torch does the work then.

Set ONLOOKER_NATIVE=0 to keep everything in torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from onlooker.native.build import build

# Up to so many rows a product mostly waits for memory and is done here; above, torch's blocked products are as fast.
BF16_ROWS = 8
#: From so many rows on, int8 weights are laid out in panels first.
INT8_PANEL_ROWS = 5
INT4_ROWS = 48
_BF16, _VNNI = 1, 2
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_lock = threading.Lock()


class _State:
    library: Any = None
    features: int | None = None  # None: not looked for yet
    is_off = False


def features() -> int:
    """What can be done here, as bits: 1 bfloat16, 2 int8 and int4. The first call compiles."""
    if _State.is_off:
        return 0
    if _State.features is None:
        with _lock:
            if _State.features is None:
                _State.features = _load()
    return _State.features


def has_bf16() -> bool:
    return bool(features() & _BF16)


def has_integers() -> bool:
    return bool(features() & _VNNI)


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Do without the compiled products inside."""
    before, _State.is_off = _State.is_off, True
    try:
        yield
    finally:
        _State.is_off = before


def _load() -> int:
    path = None if os.environ.get("ONLOOKER_NATIVE", "1") == "0" else build("linear")
    if path is None:
        return 0
    try:
        library = ctypes.CDLL(str(path))
    except OSError:  # compiled for another system, or a folder that nothing may be run from
        return 0
    library.onlooker_bf16.argtypes = [*[_POINTER] * 4, *[_SIZE] * 3, _INT]
    library.onlooker_bf16.restype = None
    library.onlooker_int8.argtypes = [*[_POINTER] * 5, *[_SIZE] * 4, _INT]
    library.onlooker_int4.argtypes = [*[_POINTER] * 6, *[_SIZE] * 3, _INT, _INT]
    library.onlooker_int4_values.argtypes = [*[_POINTER] * 4, *[_SIZE] * 2, _INT, _INT]
    library.onlooker_int4_values.restype = None
    _State.library = library
    return library.onlooker_features()


def bf16(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weightᵀ + bias in bfloat16, summed in float32 and rounded once.

    Args:
        x: [..., K], contiguous or not.
        weight: [N, K], contiguous.
    """
    rows = _rows(x)
    y = torch.empty(*x.shape[:-1], len(weight), dtype=x.dtype)
    _State.library.onlooker_bf16(
        rows.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        len(rows),
        *weight.shape,
        torch.get_num_threads(),
    )
    return y


def int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor | None:
    """x (weight · scale)ᵀ + bias; None when x has values that are not finite.

    Args:
        x: [..., K] of any floating dtype, which the result has too.
        weight: [N, K] int8.
        scale: [N, groups of 64 inputs] bfloat16.
    """
    rows = _rows(x).float()
    y = torch.empty(*x.shape[:-1], len(weight))
    more = None if bias is None else bias.float()
    done = _State.library.onlooker_int8(
        rows.data_ptr(),
        weight.data_ptr(),
        scale.data_ptr(),
        None if more is None else more.data_ptr(),
        y.data_ptr(),
        len(rows),
        *weight.shape,
        INT8_PANEL_ROWS,
        torch.get_num_threads(),
    )
    return y.to(x.dtype) if done else None


def int4(x: Tensor, weight: Tensor, scale: Tensor, zero: Tensor, bias: Tensor | None, group: int) -> Tensor | None:
    """x ((codes - 8) · scale + zero)ᵀ + bias; None when x has values that are not finite.

    Args:
        x: [..., K] of any floating dtype, which the result has too.
        weight: [N, bytes] uint8, 128 codes in 64 bytes.
        scale, zero: [N, groups] bfloat16.
        group: 64 or 128 inputs.
    """
    rows = _rows(x).float()
    y = torch.empty(*x.shape[:-1], len(weight))
    more = None if bias is None else bias.float()
    done = _State.library.onlooker_int4(
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
        torch.get_num_threads(),
    )
    return y.to(x.dtype) if done else None


def int4_values(weight: Tensor, scale: Tensor, zero: Tensor, out: Tensor, group: int) -> Tensor:
    """Write the weights of `int4` themselves into `out` [N, inputs], bfloat16 and contiguous."""
    _State.library.onlooker_int4_values(
        weight.data_ptr(),
        scale.data_ptr(),
        zero.data_ptr(),
        out.data_ptr(),
        *out.shape,
        group,
        torch.get_num_threads(),
    )
    return out


def _rows(x: Tensor) -> Tensor:
    """[M, K], contiguous."""
    return x.detach().reshape(-1, x.shape[-1]).contiguous()
