"""A stand-in for CUDA graphs on a CPU: operations are recorded, and done again on the same memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

#: what asks the device for a value, which no capture allows
LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select"}


class Recorder(TorchDispatchMode):
    """Keeps every operation with the very tensors it was given and gave; numbers stay what they were, as in a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._made: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in LOOKS:
            raise RuntimeError(f"{func} looks at values, and a capture has none")
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for each in tree_leaves(out):
            self._made[id(each)] = each
        self.calls.append((func, *tree_map(self._remember, (args, kwargs)), out))
        return out

    def _remember(self, value: Any) -> Any:
        """What was there before is not kept alive by a graph."""
        is_ours = not isinstance(value, torch.Tensor) or id(value) in self._made
        return value if is_ours else weakref.ref(value)

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            args, kwargs = tree_map(_recall, (args, kwargs))
            again = func(*args, **kwargs)
            for place, value in zip(tree_leaves(out), tree_leaves(again)):
                if (
                    isinstance(value, torch.Tensor) and value.data_ptr() != place.data_ptr()
                ):  # neither view nor in place
                    place.copy_(value)


def _recall(value: Any) -> Any:
    found = value() if isinstance(value, weakref.ref) else value
    assert found is not None or value is None, "a graph would read the memory of a tensor that is gone"
    return found


class Graphs:
    """Takes the place of `replay.capture`; counts captures and replays."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def capture(self, work: Callable[[], Any], device: torch.device) -> tuple[Callable[[], Any], Any]:
        self.captures += 1
        with Recorder() as recorder:
            results = work()
        for each in results:
            each.fill_(float("nan"))  # a capture computes nothing

        def again() -> None:
            self.replays += 1
            recorder.replay()

        return again, results
