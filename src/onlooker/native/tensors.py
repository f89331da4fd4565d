"""Says which tensors the compiled code may read where they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_KINDS = (Tensor, nn.Parameter)  # subclasses may hold their numbers elsewhere, or none


def are_plain(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors of the CPU that nobody differentiates or traces; None is one."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    is_learning = torch.is_grad_enabled()
    for each in tensors:
        if each is not None and (type(each) not in _KINDS or not each.is_cpu or (is_learning and each.requires_grad)):
            return False
    return True
