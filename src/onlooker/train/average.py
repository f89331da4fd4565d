"""Exponential moving average of what learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Shadow copies that follow the parameters slowly.

    Args:
        module: its parameters that learn are followed.
        decay: share of the shadow that stays at each step; the first steps follow faster, so that the first values
            are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of a moving average lies between 0 and 1; {decay} does not")
        self.decay = decay
        self.shadows = {name: p.detach().clone() for name, p in _learning(module)}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Follow after step `step`, the first being 1."""
        decay = min(self.decay, step / (step + 10))
        for name, parameter in _learning(module):
            self.shadows[name].lerp_(parameter.detach(), 1 - decay)

    def load(self, shadows: dict[str, Tensor]) -> None:
        for name, shadow in self.shadows.items():
            shadow.copy_(shadows[name])


def _learning(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
