"""bfloat16 linears on a CPU: the same weights and the same precision, read at the speed of the memory.

A product of few rows (a step of decoding) reads the whole weight, and torch reads it at a third of what memory gives,
because it lies unpacked. Where the compiled product is at hand it reads the weight as it lies and nothing is packed.
Where it is not, a weight that was used often enough to repay the packing gets a packed copy for torch's own product.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.native import library, products
from onlooker.native.tensors import are_plain

#: Smaller weights are at home in the processor's caches, and a call is what takes time.
LEAST_WEIGHTS = 1 << 17
#: Packing costs as much as 5 to 12 products of one row, each of which gains a third afterwards.
USES_BEFORE_PACKING = 24
#: torch's packed product reads its weight 7 % faster for three rows than for one.
_TORCH_ROWS = 3


class PackedLinear(nn.Linear):
    """An nn.Linear whose products without gradients are fast where they can be; `weight` stays what and where it is.

    Training, casts, moves, saving and sharing of the weight are those of nn.Linear.
    """

    _packed: tuple[Tensor, Any] | None = None  # the copy, and which state of the weight it is of
    _uses = 0

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if not _is_plain_product(x, weight, self.bias):
            return super().forward(x)
        rows = x.numel() // x.shape[-1]
        if library.has_bf16():
            return products.bf16(x, weight, self.bias) if rows <= products.SOME_ROWS else super().forward(x)
        packed = self._packed_weight(weight, rows <= products.FEW_ROWS)
        if packed is None:
            return super().forward(x)
        if rows >= _TORCH_ROWS:
            return torch.ops.mkldnn._linear_pointwise(x, packed, self.bias, "none", [], "")
        wider = F.pad(x.reshape(rows, -1), (0, 0, 0, _TORCH_ROWS - rows))
        y = torch.ops.mkldnn._linear_pointwise(wider, packed, self.bias, "none", [], "")
        return y[:rows].view(*x.shape[:-1], -1)

    def _packed_weight(self, weight: Tensor, few: bool) -> Tensor | None:
        state = _state(weight)
        if self._packed is not None and self._packed[1] == state:
            return self._packed[0]
        self._packed = None
        self._uses += few
        if self._uses < USES_BEFORE_PACKING or not _can_pack() or not _has_room(weight.nbytes):
            return None
        self._uses = 0
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        self._packed = packed, state
        return packed

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        self._packed = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave the packed weight out."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack(model: nn.Module) -> list[str]:
    """Give the linears of a model the fast product where it pays: in bfloat16, on a CPU, and large.

    Each module stays the same object, with its hooks, its weight and the names of its tensors.

    Returns:
        The paths of the modules.
    """
    changed = []
    for path, module in model.named_modules():
        if _pays(module):
            module.__class__ = _packed_class(type(module))
            changed.append(path)
    return changed


def _pays(module: nn.Module) -> bool:
    if not isinstance(module, nn.Linear) or isinstance(module, PackedLinear):
        return False
    if not type(module).__module__.startswith(("torch.nn.modules.linear", "onlooker.")):
        return False  # others do more in a call than a product
    weight = module.weight
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and weight.numel() >= LEAST_WEIGHTS


_CLASSES: dict[type[nn.Linear], type[PackedLinear]] = {nn.Linear: PackedLinear}


def _packed_class(kind: type[nn.Linear]) -> type[PackedLinear]:
    """The same for a subclass of nn.Linear: what it does beside the product stays."""
    if kind not in _CLASSES:
        _CLASSES[kind] = type(f"Packed{kind.__name__}", (PackedLinear, kind), {})
    return _CLASSES[kind]


def _is_plain_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether this is a product of ordinary bfloat16 tensors on the CPU that nobody differentiates or traces."""
    if not x.dtype == weight.dtype == torch.bfloat16 or (bias is not None and bias.dtype != torch.bfloat16):
        return False
    if x.shape[-1] != weight.shape[1] or x.numel() == 0 or not weight.is_contiguous():
        return False
    return are_plain(x, weight, bias)


def _state(weight: Tensor) -> tuple[Any, ...]:
    """What changes when the values of a weight may have changed."""
    return weight.data_ptr(), weight.shape, 0 if weight.is_inference() else weight._version


def _can_pack() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _has_room(size: int) -> bool:
    """Whether memory can take `size` bytes more and keep an eighth free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kilobytes["MemAvailable"] * 1024 - size > kilobytes["MemTotal"] * 1024 // 8
