"""Modules as plain functions, for loops in which starting operations is what takes time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

Module = TypeVar("Module")

#: rooms whose forwards change nothing of their module, and the modules of torch that they use
_ROOMS = ("onlooker.language.", "onlooker.nn.", "onlooker.models.")
_LEAVES = (nn.Linear, nn.LayerNorm, nn.Embedding)
_CALLS = nn.Module.__call__
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CLASSES: dict[type, type] = {}


def plain(module: Module) -> Module:
    """The same module to be called only: same forward, same weights, without what torch does around each call.

    A call of a module and the look-up of each of its parts cost more than a small matrix product. Where something
    hangs on those calls (hooks, a forward put on the object, modules of other packages) the module itself is used, so
    that it is called as ever. Parts are looked up now: what is replaced in the module later is not seen.
    """
    return _plain(module, {})


def is_plain(module: Any) -> bool:
    """Whether nothing hangs on calls of the module and its parts, so that they may be recorded and repeated."""
    return all(isinstance(part, nn.ModuleList) or _is_ours(part) for part in module.modules())


def _plain(module: Any, known: dict[int, Any]) -> Any:
    if id(module) in known:
        return known[id(module)]
    if isinstance(module, nn.ModuleList) and type(module).__call__ is _CALLS:
        return [_plain(each, known) for each in module]
    if not _is_ours(module):
        return module
    made: Any = object.__new__(_plain_class(type(module)))
    known[id(module)] = made
    parts = {name: _plain(part, known) for name, part in module._modules.items()}
    made.__dict__.update(module.__dict__)
    made.__dict__.update(module._parameters)
    made.__dict__.update(parts)
    return made


def _is_ours(module: Any) -> bool:
    kind = type(module)
    if not isinstance(module, nn.Module) or not (kind in _LEAVES or kind.__module__.startswith(_ROOMS)):
        return False
    if "forward" in module.__dict__ or kind.__call__ is not _CALLS or module._compiled_call_impl is not None:
        return False
    every: Any = torch.nn.modules.module
    if every._global_forward_hooks or every._global_forward_pre_hooks or every._global_backward_hooks:
        return False
    return not any(getattr(module, name) for name in _HOOKS)


def _plain_class(kind: type) -> type:
    if kind not in _CLASSES:
        call: Callable[..., Any] = kind.forward  # type: ignore[attr-defined]
        _CLASSES[kind] = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return _CLASSES[kind]
