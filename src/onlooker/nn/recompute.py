"""Gradient checkpointing: run a layer again in the backward pass instead of keeping its activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class LayerStack(nn.Module):
    """A module that holds layers and can trade memory for a second forward pass of each."""

    gradient_checkpointing = False
    #: set by training for frozen stacks that gradients run through; they must then be called without a cache
    recompute_in_eval = False

    def run_layer(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        wanted = self.gradient_checkpointing and (self.training or self.recompute_in_eval)
        if wanted and torch.is_grad_enabled():
            return checkpoint(layer, *args, use_reentrant=False, **kwargs)
        return layer(*args, **kwargs)
