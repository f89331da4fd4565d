"""Puts the parts of a model on devices: device maps through accelerate, offloading to the CPU and to disk."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from onlooker.weights.policy import DtypePlan
from onlooker.weights.reading import Reader, StoredTensor

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
DeviceMap = dict[str, Any]


def resolve_device_map(
    model: nn.Module,
    device_map: str | int | torch.device | Mapping[str, Any] | None,
    plan: DtypePlan,
    *,
    max_memory: Mapping[Any, Any] | None = None,
    no_split: Sequence[str] = (),
) -> DeviceMap:
    """Spell a device map out as module prefix -> device.

    Args:
        model: on the meta device.
        device_map: None (CPU), a device, "auto" and its kin, or prefix -> device, "cpu" or "disk".
        max_memory: device -> bytes, for the strategies.
        no_split: class names of modules that must stay whole (residual layers).

    Raises:
        ValueError: a strategy or device that does not exist, or a map that leaves parameters out.
    """
    if device_map is None:
        return {"": torch.device("cpu")}
    if isinstance(device_map, Mapping):
        _check_covers(model, device_map)
        return _settle(model, device_map)
    if isinstance(device_map, str) and device_map in STRATEGIES:
        return _settle(model, _infer(model, device_map, plan, max_memory, no_split))
    if isinstance(device_map, int):
        return {"": torch.device("cuda", device_map)}
    try:
        return {"": torch.device(device_map)}
    except RuntimeError as error:
        raise ValueError(
            f"device_map {device_map!r} is not known. Give a device such as 'cpu' or 'cuda:0', one of "
            f"{', '.join(STRATEGIES)}, or a mapping from module prefix to device."
        ) from error


def _settle(model: nn.Module, device_map: Mapping[str, Any]) -> DeviceMap:
    """Keep single parameters (query tokens) on the main device: hooks, which fetch what is offloaded, need modules."""
    modules = {name for name, _ in model.named_modules()}
    _check_shared(model, device_map)
    devices = [device for device in device_map.values() if device not in ("cpu", "disk")]
    main = devices[0] if devices else "cpu"
    return {name: device if name in modules else main for name, device in _spread(model, device_map).items()}


def _spread(model: nn.Module, device_map: Mapping[str, Any]) -> DeviceMap:
    """The same map without a name inside another: a hook that fetches a module would fetch all that is in it.

    A whole model on disk is named by its parts too, because methods other than forward start inside it.
    """
    spread: DeviceMap = {}

    def walk(path: str, module: nn.Module, device: Any) -> None:
        device = device_map.get(path, device)
        inside = f"{path}." if path else ""
        is_split = any(name.startswith(inside) and name != path for name in device_map)
        if not is_split and (path or device != "disk"):
            spread[path] = device
            return
        for leaf in (*module._parameters, *module._buffers):
            spread[inside + leaf] = device_map.get(inside + leaf, device)
        for name, child in module.named_children():
            walk(inside + name, child, device)

    walk("", model, None)
    return spread


def _check_covers(model: nn.Module, device_map: Mapping[str, Any]) -> None:
    def covered(name: str) -> bool:
        return any(prefix == "" or name == prefix or name.startswith(prefix + ".") for prefix in device_map)

    left_out = [name for name in model.state_dict() if not covered(name)]
    if left_out:
        raise ValueError(
            f"The device_map names no device for {len(left_out)} tensors: {', '.join(left_out[:5])}. "
            "Add their modules, or '' for all that is not named."
        )


def _check_shared(model: nn.Module, device_map: Mapping[str, Any]) -> None:
    """Refuse to put one module under two names (T5's embedding) half on disk: its hook could do only one of both."""
    paths: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if path and module._parameters:
            paths.setdefault(module, []).append(path)
    for same in paths.values():
        disk = set(on_disk(device_map, same)) if len(same) > 1 else set()
        if disk and disk != set(same):
            names, alone = ", ".join(same), ", ".join(sorted(disk))
            raise ValueError(f"The device_map leaves {alone} on disk, but {names} are one module: move all of them.")


def _infer(
    model: nn.Module, strategy: str, plan: DtypePlan, max_memory: Mapping[Any, Any] | None, no_split: Sequence[str]
) -> DeviceMap:
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory, get_max_memory

    special = {name: plan.dtype_of(name, tensor.dtype) for name, tensor in model.state_dict().items()}
    options: dict[str, Any] = {"no_split_module_classes": list(no_split), "special_dtypes": special}
    limits = dict(max_memory) if max_memory is not None else None
    if strategy == "sequential":
        memory = get_max_memory(limits)
    else:
        memory = get_balanced_memory(model, limits, low_zero=strategy == "balanced_low_0", **options)
    return dict(infer_auto_device_map(model, max_memory=memory, **options))


def device_finder(device_map: DeviceMap) -> Callable[[str], torch.device]:
    """name -> device where the tensor is loaded; tensors offloaded to disk count as CPU."""
    prefixes = sorted(device_map, key=len, reverse=True)

    def find(name: str) -> torch.device:
        prefix = next(prefix for prefix in prefixes if not prefix or name == prefix or name.startswith(prefix + "."))
        device = device_map[prefix]
        if device == "disk":
            return torch.device("cpu")
        return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)

    return find


def on_disk(device_map: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The names that the map leaves on disk."""
    prefixes = sorted(device_map, key=len, reverse=True)

    def place(name: str) -> Any:
        return device_map[next(p for p in prefixes if not p or name == p or name.startswith(p + "."))]

    return [name for name in names if place(name) == "disk"]


def disk_index(
    sources: Mapping[str, StoredTensor], names: Sequence[str], plan: DtypePlan, folder: str | Path | None
) -> tuple[dict[str, dict[str, Any]], Path | None]:
    """Say where accelerate finds the tensors that stay on disk: in the safetensors files, or copied out of .bin.

    Args:
        folder: where copies go; None is a folder that goes when the process ends.

    Returns:
        The index, and the folder that copies were written to.
    """
    index: dict[str, dict[str, Any]] = {}
    target = Path(folder) if folder is not None else None
    for name in names:
        source = sources[name]
        dtype = plan.dtype_of(name, source.dtype)
        if source.file.suffix == ".safetensors":
            spelled = str(dtype).removeprefix("torch.")
            index[name] = {"safetensors_file": str(source.file), "weight_name": source.name, "dtype": spelled}
        else:
            from accelerate.utils import offload_weight

            if target is None:
                target = Path(tempfile.mkdtemp(prefix="onlooker-offload-"))
                atexit.register(shutil.rmtree, target, ignore_errors=True)
            target.mkdir(parents=True, exist_ok=True)
            offload_weight(Reader().convert(source, dtype, torch.device("cpu")), name, str(target), index=index)
    return index, target


def dispatch(model: nn.Module, device_map: DeviceMap, index: dict[str, dict[str, Any]], folder: Path | None) -> None:
    """Install accelerate's hooks when the model is spread over more than one place."""
    if len({str(device) for device in device_map.values()}) == 1 and not index:
        return
    from accelerate import dispatch_model

    with warnings.catch_warnings():
        # It takes keys for single parameters, but warns of them.
        warnings.filterwarnings("ignore", message="The following device_map keys do not match any submodules")
        dispatch_model(
            model,
            device_map=device_map,
            offload_index=cast(Any, index or None),  # its annotation is narrower than what it reads
            offload_dir=str(folder) if folder is not None else None,
        )
