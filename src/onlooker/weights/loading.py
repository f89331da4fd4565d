"""Fills a model that was built on the meta device from the tensors matched to it, casting and placing each once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onlooker.weights.policy import DtypePlan
from onlooker.weights.reading import Reader, StoredTensor

_WORKERS = min(4, os.cpu_count() or 1)
Progress = Callable[[int, int], None]
#: May take a weight over (to quantise it); gives True when it did.
Store = Callable[[nn.Module, str, Tensor, torch.device], bool]


class _NoFilling(TorchFunctionMode):
    """Lets starting values of meta tensors be: there are no values, and asking for some imports a compiler."""

    _FILLERS = frozenset({"normal_", "uniform_", "fill_", "zero_", "copy_", "trunc_normal_", "kaiming_uniform_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")  # torch.nn.init passes everything by name
        if getattr(func, "__name__", "") in self._FILLERS and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **kwargs)


def build_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """Make a module with shapes and without memory."""
    with torch.device("meta"), _NoFilling():
        return build()


def fill(
    model: nn.Module,
    sources: Mapping[str, StoredTensor],
    plan: DtypePlan,
    *,
    device_of: Callable[[str], torch.device],
    skip: Iterable[str] = (),
    store: Store | None = None,
    progress: Progress | None = None,
) -> None:
    """Give every parameter and buffer of `sources` its value.

    A tensor that stays on the CPU in the dtype it is stored in becomes a view on the file and costs nothing until it
    is used; any other is converted in pieces.

    Args:
        device_of: name -> where the tensor goes.
        skip: names that stay on the meta device (offloaded to disk).
        progress: called with (bytes read, bytes in total).
    """
    left_out = set(skip)
    for name in left_out:  # hooks cast what they fetch to the dtype that stands here
        owner, leaf = owner_of(model, name)
        put(
            owner, leaf, torch.empty(sources[name].shape, dtype=plan.dtype_of(name, sources[name].dtype), device="meta")
        )
    todo = {name: source for name, source in sources.items() if name not in left_out}
    total = sum(source.nbytes for source in todo.values())
    done, turn = 0, Lock()
    reader = Reader()

    def advance(count: int) -> None:
        nonlocal done
        with turn:
            done += count
            if progress is not None:
                progress(done, total)

    def read(name: str) -> None:
        source, device = todo[name], device_of(name)
        dtype = plan.dtype_of(name, source.dtype)
        if dtype == source.dtype and device.type == "cpu":
            value = reader.view(source)
            advance(source.nbytes)
        else:
            value = reader.convert(source, dtype, device, advance)
        owner, leaf = owner_of(model, name)
        if store is None or not store(owner, leaf, value, device):
            put(owner, leaf, value)

    # In the order of the files: a disk reads one stretch, and a cold cache is not read twice.  New memory is handed
    # out page by page, which several threads ask for faster than one; quantising takes one tensor after the other.
    with ThreadPoolExecutor(_WORKERS if store is None else 1) as workers:
        for _ in workers.map(read, todo):
            pass


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter or buffer, and its name there."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def put(owner: nn.Module, leaf: str, value: Tensor) -> None:
    """Put a tensor in the place of a parameter or buffer."""
    if leaf in owner._buffers:
        owner._buffers[leaf] = value
        return
    old = owner._parameters[leaf]
    owner._parameters[leaf] = nn.Parameter(value, requires_grad=old is not None and old.requires_grad)


def initialise(
    model: nn.Module,
    names: Iterable[str],
    plan: DtypePlan,
    *,
    device_of: Callable[[str], torch.device],
    init: Callable[[nn.Module], None] | None = None,
) -> None:
    """Give missing parameters starting values: `init(module)` or its own reset where all of a module is missing.

    What belongs to no such module (query tokens, position tables) is drawn with a standard deviation of 0.02.
    """
    owners: dict[nn.Module, list[str]] = {}
    for name in names:
        owner, leaf = owner_of(model, name)
        shape, dtype = owner.get_parameter(leaf).shape, plan.dtype_of(name, torch.float32)
        value = torch.zeros(shape, dtype=dtype, device=device_of(name))
        put(owner, leaf, value.normal_(std=0.02) if value.ndim > 1 else value)
        owners.setdefault(owner, []).append(leaf)
    for owner, leaves in owners.items():
        if set(leaves) != set(owner._parameters):
            continue
        reset = getattr(owner, "reset_parameters", None)
        if init is not None:
            init(owner)
        elif callable(reset):
            reset()
