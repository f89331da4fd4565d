"""The compiled kernels for the language model and the other parts: whether they can be had, and for what.

Set ONLOOKER_NATIVE=0 to keep everything in torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

from onlooker.native.build import load

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
                _State.features = _find_features()
    return _State.features


def has_bf16() -> bool:
    return bool(features() & _BF16)


def has_integers() -> bool:
    return bool(features() & _VNNI)


def kernels() -> Any:
    """The functions of linear.cpp; only where `features` names some."""
    return _State.library


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Do without the compiled kernels inside."""
    before, _State.is_off = _State.is_off, True
    try:
        yield
    finally:
        _State.is_off = before


def _find_features() -> int:
    found = _State.library = load("linear")
    if found is None:
        return 0
    found.onlooker_bf16.argtypes = [*[_POINTER] * 4, *[_SIZE] * 4, _INT]
    found.onlooker_bf16.restype = None
    found.onlooker_int8.argtypes = [*[_POINTER] * 5, *[_SIZE] * 3, _INT, _SIZE, _INT]
    found.onlooker_int4.argtypes = [*[_POINTER] * 6, *[_SIZE] * 3, _INT, _INT, _SIZE, _INT]
    found.onlooker_attention.argtypes = [*[_POINTER] * 6, ctypes.c_float, _INT, _INT, _INT]
    return int(found.onlooker_features())
