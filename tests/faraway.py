"""A stand-in for a GPU on a CPU: tensors that say they are elsewhere, and tell when somebody looks at their values.

Their numbers are ordinary ones, so that what the library does only beside a CPU runs, and its results can be compared.
Tensors of both places do not mix, as on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

PLACE = torch.device("xla", 0)  # a kind of device that torch knows and that needs nothing to be installed
#: what waits for a device: its values decide on a Python number, or on a shape
LOOKS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select"}
MOVES = {"aten::_to_copy", "aten::copy_"}


class Far(torch.Tensor):
    """A tensor that is elsewhere; `near` has its numbers."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        # Beneath it is on the meta device, or torch would look for a library that knows the other.
        offset, strides = near.storage_offset(), near.stride()
        far = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, strides=strides, dtype=near.dtype, device="meta", storage_offset=offset
        )
        far.near = near
        return far

    device = property(lambda self: PLACE)
    is_meta = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:
        return f"Far({self.near})"

    def tolist(self) -> Any:
        return torch.ops.aten._to_copy(self, device="cpu").tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of the place where these tensors are")


class Faraway(TorchDispatchMode):
    """Where such tensors can be worked with.

    Attributes:
        looks: how often a value was waited for.
        may_look: False lets a look fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.may_look = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        far = [each for each in tensors if isinstance(each, Far)]
        to = kwargs.get("device")
        is_far = bool(far) if to is None else torch.device(to).type in (PLACE.type, "meta")
        if name in LOOKS and far or name == "aten::_to_copy" and far and not is_far:
            self._look(func)
        if name == "aten::copy_" and far and not isinstance(args[0], Far):
            self._look(func)
            is_far = False
        near = [each for each in tensors if not isinstance(each, Far) and each.dim()]
        if far and near and name not in MOVES and not name.startswith("aten::index"):  # an index may lie on the host
            raise RuntimeError(f"{func} was given tensors of two places")
        if to is not None and is_far:
            kwargs["device"] = torch.device("cpu")
        args_near, kwargs_near = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
        out = func(*args_near, **kwargs_near)
        if not is_far:
            return out
        known = {id(each.near): each for each in far}  # what is written in place stays the tensor that it was
        back = lambda x: known[id(x)] if id(x) in known else Far(x)  # noqa: E731
        return tree_map(lambda x: back(x) if isinstance(x, torch.Tensor) else x, out)

    def __enter__(self) -> Faraway:
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) shows that it sends its numbers, too
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def _look(self, func: Any) -> None:
        if not self.may_look:
            raise AssertionError(f"{func} waits for the device")
        self.looks += 1


def send(module: torch.nn.Module) -> None:
    """Move the weights of a module, in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and not isinstance(weight.data, Far):
                part._parameters[name] = torch.nn.Parameter(Far(weight.detach()), requires_grad=False)
