"""Fresh weights: normal matrices, zero biases, unit norms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def without_values(root: nn.Module) -> Iterator[None]:
    """Build the parts of `root` without torch's own first values, which a large model would draw for nothing.

    Every parameter below `root` must be initialised afterwards.
    """
    device = torch.get_default_device()
    with torch.device("meta"):
        yield
    if device.type != "meta":  # empty again would be the same, and asking for it imports torch's compiler
        root.to_empty(device=device)


def init_normal(root: nn.Module, std: float) -> None:
    """Draw every matrix below `root` from N(0, std²); biases and shifts become 0, scales 1, padding rows 0."""
    for module in root.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx].detach())
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
