"""Fresh weights: normal matrices, zero biases, unit norms."""

from __future__ import annotations

from torch import nn


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
