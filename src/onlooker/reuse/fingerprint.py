"""What names things by what they are: the bytes of a medium, the values of pixels, the weights of a model."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

_CHUNK = 1 << 20
_SAMPLES = 64  # values looked at in a row, in three places of every weight: few pages of a file that is not read yet


def digest(*parts: Any) -> str:
    """Of a few words and numbers."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def digest_file(file: BinaryIO) -> str:
    """Of everything in an open file."""
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()


def digest_values(values: np.ndarray, *about: Any) -> str:
    """Of an array's values, shape and dtype, and of a few words."""
    found = hashlib.sha256(digest(values.shape, str(values.dtype), *about).encode())
    found.update(np.ascontiguousarray(values).data.cast("B"))
    return found.hexdigest()


class ModelIdentity:
    """Names a model by its configuration and weights, again whenever these were edited, swapped or written to.

    The weights' part is cheap: of each, name, dtype, shape and 192 values from its beginning, middle and end, which a
    fine-tuned, merged, cast or quantised model does not share. Writes inside this process are seen whatever they
    change, by the counts that torch keeps.

    Args:
        about: anything else that tells one model from another, such as its name and revision.
    """

    def __init__(self, *about: Any) -> None:
        self._about = about
        self._stamp: tuple[Any, ...] | None = None
        self._writes = -1
        self._found = ""
        self._lock = threading.Lock()

    def of(self, model: nn.Module) -> str:
        config: Any = getattr(model, "config", None)
        settings = digest(type(model).__name__, {} if config is None else config.to_dict(), self._about)
        stamp = (settings, *(_stamp(each) for each in itertools.chain(model.parameters(), model.buffers())))
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                self._writes += 1
                self._found = digest(settings, self._writes, _digest_weights(model))
            return self._found


def _digest_weights(model: nn.Module) -> str:
    found = hashlib.sha256()
    for name, each in itertools.chain(model.named_parameters(), model.named_buffers()):
        found.update(digest(name, str(each.dtype), tuple(each.shape)).encode())
        found.update(_sample(each))
    return found.hexdigest()


def _stamp(tensor: Tensor) -> tuple[Any, ...]:
    """Changes with every write. What lies elsewhere is fetched under new objects for each use: they tell nothing."""
    if tensor.is_meta:
        return (tensor.shape, tensor.dtype)
    return (id(tensor), 0 if tensor.is_inference() else tensor._version, tensor.dtype)


def _sample(tensor: Tensor) -> bytes:
    """A few values; none of weights that lie elsewhere or are packed for a kernel."""
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return b""
    flat = tensor.detach().reshape(-1)
    middle = len(flat) // 2
    few = torch.cat([flat[:_SAMPLES], flat[middle : middle + _SAMPLES], flat[-_SAMPLES:]])
    return few.cpu().contiguous().view(torch.uint8).numpy().tobytes()
