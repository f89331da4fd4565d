"""Writes a model's tensors as published checkpoints are: safetensors shards with an index, or .bin."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.weights.naming import RenameTable
from onlooker.weights.reading import PICKLE_FILE, SAFETENSORS_FILE

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(size: int | str) -> int:
    """Read "5GB" (powers of ten) or "200MiB" (powers of two) as bytes.

    Raises:
        ValueError: not a size.
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", size)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"max_shard_size {size!r} is no size: give bytes, or a text such as '5GB' or '200MiB'.")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def save_weights(
    model: nn.Module,
    folder: Path,
    *,
    tied: Mapping[str, str],
    disk_names: RenameTable | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_bytes: int = 5 * 10**9,
    safe_serialization: bool = True,
) -> None:
    """Write the weight files of a model; a folder that the model was loaded from may be written over.

    Every file is written beside its place and moved there at the end: tensors that are views on the old file keep it
    alive until then.

    Args:
        tied: duplicate -> kept name; duplicates are not written.
        disk_names: the published names when they differ from the model's.
        state_dict: written instead of the model's own.
    """
    tensors = dict(state_dict) if state_dict is not None else _state_dict(model, tied)
    named = {(disk_names.to_file(name) if disk_names else name): t for name, t in tensors.items() if name not in tied}
    first = SAFETENSORS_FILE if safe_serialization else PICKLE_FILE
    shards = _split(named, max_shard_bytes)
    names = _shard_names(first, len(shards))
    written: list[tuple[Path, Path]] = []
    for name, shard in zip(names, shards):
        temporary = folder / f".{name}.part"
        _write(temporary, {key: named[key] for key in shard}, safe_serialization)
        written.append((temporary, folder / name))
    _remove_old(folder, first)
    for temporary, final in written:
        os.replace(temporary, final)
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(_nbytes(tensor) for tensor in named.values())},
            "weight_map": {key: name for name, shard in zip(names, shards) for key in shard},
        }
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / f"{first}.index.json").write_text(text, encoding="utf-8")


def _state_dict(model: nn.Module, tied: Mapping[str, str]) -> dict[str, Tensor]:
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    for name, tensor in tensors.items():
        if tensor.device.type == "meta":
            path, _, leaf = name.rpartition(".")
            tensors[name] = _fetch_offloaded(model.get_submodule(path), leaf)
    return tensors


def _fetch_offloaded(module: nn.Module, leaf: str) -> Tensor:
    """The value that accelerate's hook would fetch; a module with several names has a chain of hooks."""
    hook: Any = getattr(module, "_hf_hook", None)
    for link in getattr(hook, "hooks", (hook,)):
        if getattr(link, "weights_map", None) is not None:
            return link.weights_map[leaf]
    raise ValueError(f"{leaf} of {type(module).__name__} is on the meta device: the model has no values to save.")


def _split(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _nbytes(tensor) > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _nbytes(tensor)
    return shards


def _nbytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _shard_names(first: str, count: int) -> list[str]:
    if count == 1:
        return [first]
    stem, suffix = first.rsplit(".", 1)
    return [f"{stem}-{i:05d}-of-{count:05d}.{suffix}" for i in range(1, count + 1)]


def _write(path: Path, tensors: Mapping[str, Tensor], safe_serialization: bool) -> None:
    if safe_serialization:
        from safetensors.torch import save_file

        path.touch()
        mode = path.stat().st_mode  # what the umask gives; safetensors leaves files that only the owner may read
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
        path.chmod(mode)
    else:
        # clone: a view would take the whole storage behind it into the file
        torch.save({name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}, path)


def _remove_old(folder: Path, first: str) -> None:
    """Take away what an earlier save of the same kind left, or the two would be read mixed."""
    stem, suffix = first.rsplit(".", 1)
    pattern = re.compile(rf"{re.escape(stem)}(-\d{{5}}-of-\d{{5}})?\.{suffix}(\.index\.json)?")
    for file in folder.iterdir():
        if pattern.fullmatch(file.name):
            file.unlink()
