"""What names things by what they are: the bytes of a medium, the values of pixels, the weights of a model."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

_CHUNK = 1 << 20
_SAMPLES = 256  # values looked at of every weight


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
    """Names a model by its configuration and weights, again whenever weights were swapped or written to.

    The weights' part is cheap: of each, name, dtype, shape and 256 values spread over it, which a fine-tuned,
    merged, cast or quantised model does not share. Writes inside this process are seen whatever they change, by the
    counts that torch keeps.

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
        stamp = tuple(_stamp(each) for _, each in _weights(model))
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                self._writes += 1
                self._found = self._name(model)
            return self._found

    def _name(self, model: nn.Module) -> str:
        config: Any = getattr(model, "config", None)
        weights = hashlib.sha256()
        for name, each in _weights(model):
            weights.update(digest(name, str(each.dtype), tuple(each.shape)).encode())
            weights.update(_sample(each))
        settings = {} if config is None else config.to_dict()
        return digest(type(model).__name__, settings, self._about, self._writes, weights.hexdigest())


def _weights(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return itertools.chain(model.named_parameters(), model.named_buffers())


def _stamp(tensor: Tensor) -> tuple[Any, ...]:
    """Changes with every write. What lies elsewhere is fetched under new objects for each use: they tell nothing."""
    if tensor.is_meta:
        return (tensor.shape, tensor.dtype)
    return (id(tensor), 0 if tensor.is_inference() else tensor._version, tensor.dtype)


def _sample(tensor: Tensor) -> bytes:
    """A few values, evenly spread; none of weights that lie elsewhere or are packed for a kernel."""
    if tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return b""
    flat = tensor.detach().reshape(-1)
    places = torch.linspace(0, len(flat) - 1, min(_SAMPLES, len(flat)), dtype=torch.float64, device=flat.device)
    return flat[places.long()].cpu().contiguous().view(torch.uint8).numpy().tobytes()
