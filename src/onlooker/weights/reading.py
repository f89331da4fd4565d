"""Reads tensors out of weight files through memory mappings, in pieces of bounded size.

Pages of a mapping count as memory of the process once they were touched, so whatever is converted is read through a
mapping that is dropped after at most `CHUNK_BYTES`.  What is kept as it is stored stays a private view on the file.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onlooker.errors import CheckpointError, ModelNotFoundError
from onlooker.hub import find_file

CHUNK_BYTES = 16 << 20
SAFETENSORS_FILE = "model.safetensors"
PICKLE_FILE = "pytorch_model.bin"

_Open = Callable[[str, slice | None], Tensor]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what it is, known without reading it."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class _Scratch(threading.local):
    """The mapping that one thread converts from, and how much of it was read."""

    mapping: tuple[Path, _Open] | None = None
    read_bytes = 0


class Reader:
    """Gives the values of stored tensors, also to several threads at once.

    What was mapped to convert them is let go every `CHUNK_BYTES`.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, _Open] = {}
        self._scratch = _Scratch()

    def view(self, source: StoredTensor) -> Tensor:
        """The tensor as stored: a private view on the file, read when it is touched, copied where it is written."""
        if source.file not in self._kept:
            self._kept[source.file] = _open(source.file)
        return self._kept[source.file](source.name, None)

    def pieces(self, source: StoredTensor) -> Iterator[Tensor]:
        """The rows in order, at most `CHUNK_BYTES` at a time; drop each piece before asking for the next."""
        rows = source.shape[0] if source.shape else 0
        if source.nbytes <= CHUNK_BYTES or rows <= 1:
            yield self._open(source)(source.name, None)
            return
        step = max(1, rows * CHUNK_BYTES // source.nbytes)
        for start in range(0, rows, step):
            yield self._open(source)(source.name, slice(start, min(start + step, rows)))

    def _open(self, source: StoredTensor) -> _Open:
        scratch = self._scratch
        if scratch.mapping is None or scratch.mapping[0] != source.file or scratch.read_bytes >= CHUNK_BYTES:
            scratch.mapping = None  # the old mapping goes before the new one comes
            scratch.mapping = (source.file, _open(source.file))
            scratch.read_bytes = 0
        scratch.read_bytes += min(source.nbytes, CHUNK_BYTES)
        return scratch.mapping[1]

    def convert(
        self,
        source: StoredTensor,
        dtype: torch.dtype,
        device: torch.device,
        advance: Callable[[int], None] | None = None,
    ) -> Tensor:
        """A new tensor of another dtype or on another device; `advance` hears of every piece's bytes."""
        target = torch.empty(source.shape, dtype=dtype, device=device)
        start = 0
        for piece in self.pieces(source):
            count = piece.shape[0] if piece.ndim else 1
            (target[start : start + count] if piece.ndim else target).copy_(piece)
            start += count
            if advance is not None:
                advance(piece.numel() * piece.element_size())
            del piece
        return target

    def same(self, left: StoredTensor, right: StoredTensor) -> bool:
        """Whether two stored tensors hold equal values."""
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        other = Reader()
        return all(torch.equal(a, b) for a, b in zip(self.pieces(left), other.pieces(right)))


def find_weights(name_or_path: str | Path, use_safetensors: bool | None = None, **hub: Any) -> dict[str, StoredTensor]:
    """List every tensor of a checkpoint: single or sharded, safetensors or (weights_only) .bin.

    Args:
        use_safetensors: True refuses .bin files, False reads nothing else, None prefers safetensors.

    Raises:
        ModelNotFoundError: no such model, or it has no weight file of the kinds allowed.
        CheckpointError: a file is damaged, or a shard that the index names is missing.
    """
    kinds = {True: [SAFETENSORS_FILE], False: [PICKLE_FILE], None: [SAFETENSORS_FILE, PICKLE_FILE]}[use_safetensors]
    for filename in kinds:
        files = _files_of(name_or_path, filename, **hub)
        if files:
            tensors: dict[str, StoredTensor] = {}
            for file in files:
                tensors.update(scan_file(file))
            return tensors
    wanted = " or ".join(f"{filename} (or {filename}.index.json with its shards)" for filename in kinds)
    raise ModelNotFoundError(f"{name_or_path} has no weights: no {wanted}.{_refused_hint(name_or_path, kinds, **hub)}")


def _refused_hint(name_or_path: str | Path, kinds: list[str], **hub: Any) -> str:
    if kinds == [SAFETENSORS_FILE] and _files_of(name_or_path, PICKLE_FILE, **hub):
        return " It has .bin files, which use_safetensors=True refuses: leave that out to read them with weights_only."
    return ""


def _files_of(name_or_path: str | Path, filename: str, **hub: Any) -> list[Path]:
    file = find_file(name_or_path, filename, **hub)
    if file is not None:
        return [file]
    index = find_file(name_or_path, f"{filename}.index.json", **hub)
    if index is None:
        return []
    shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found = {shard: find_file(name_or_path, shard, **hub) for shard in shards}
    absent = [shard for shard, path in found.items() if path is None]
    if absent:
        raise CheckpointError(
            f"{name_or_path}: {len(absent)} of {len(shards)} weight files that {index.name} names are missing: "
            f"{', '.join(absent[:5])}. Copy or download them again (`onlooker fetch` goes on where it stopped)."
        )
    return [path for path in found.values() if path is not None]


def scan_file(file: Path) -> dict[str, StoredTensor]:
    """List every tensor of one weight file: safetensors, or a (weights_only) pickle, bare or as {"model": ...}.

    Raises:
        CheckpointError: the file is damaged, or holds more than tensors.
    """
    if file.suffix == ".safetensors":
        with _safe_open(file) as handle:
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
            return {
                name: StoredTensor(file, name, tuple(part.get_shape()), _dtype(file, name, part.get_dtype()))
                for name, part in slices.items()
            }
    return {name: StoredTensor(file, name, tuple(t.shape), t.dtype) for name, t in _unpickle(file).items()}


def _dtype(file: Path, name: str, code: str) -> torch.dtype:
    if code not in _DTYPES:
        raise CheckpointError(f"{file}: {name} is stored as {code}, which is not read here: {', '.join(_DTYPES)} are.")
    return _DTYPES[code]


def _open(file: Path) -> _Open:
    """A reader of (name, rows) over a mapping that lives as long as the tensors it gave."""
    if file.suffix == ".safetensors":
        handle = _safe_open(file)
        return lambda name, rows: handle.get_tensor(name) if rows is None else handle.get_slice(name)[rows]
    tensors = _unpickle(file)
    return lambda name, rows: tensors[name] if rows is None else tensors[name][rows]


def _safe_open(file: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(_damaged(file, error)) from error


def _unpickle(file: Path) -> dict[str, Tensor]:
    try:
        # Files older than torch 1.6 are no zip archives and cannot be mapped: they are read as a whole.
        import zipfile

        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors, or is damaged; it is not opened, for it could run code. "
            f"Use a safetensors version of the checkpoint. ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise CheckpointError(_damaged(file, error)) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):  # the container of training scripts
        loaded = loaded["model"]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file} holds a {type(loaded).__name__}; wanted is a dict of tensors.")
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def _damaged(file: Path, error: Exception) -> str:
    size = file.stat().st_size
    hint = "a Git LFS pointer, not the file itself: run `git lfs pull`" if size < 1000 else "cut short or damaged"
    return f"{file} ({size} bytes) cannot be read: it is probably {hint}. ({error})"
