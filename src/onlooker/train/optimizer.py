"""AdamW without decay on norms and biases, and the learning rate of every step."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def parameter_groups(
    module: nn.Module, weight_decay: float, scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Groups of what learns: matrices decay; norms, biases and single numbers do not.

    Args:
        scales: regex of a parameter name -> factor of the learning rate; the first that is found counts.

    Raises:
        ValueError: nothing learns, or a regex that is found nowhere.
    """
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    learning = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError("nothing in this model learns: every parameter is frozen")
    for pattern in scales or {}:
        if not any(re.search(pattern, name) for name, _ in learning):
            raise ValueError(f"no learning parameter has a name with {pattern!r} in it")
    for name, parameter in learning:
        scale = next((factor for pattern, factor in (scales or {}).items() if re.search(pattern, name)), 1.0)
        decays = parameter.ndim > 1
        group = groups.setdefault(
            (decays, scale), {"params": [], "weight_decay": weight_decay if decays else 0.0, "scale": scale}
        )
        group["params"].append(parameter)
    return list(groups.values())


def adamw(
    module: nn.Module,
    *,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.98),
    scales: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """The optimiser of arXiv:2301.12597, section 3.4; the learning rate is set by `set_learning_rate`.

    Raises:
        ValueError: nothing learns.
    """
    return torch.optim.AdamW(parameter_groups(module, weight_decay, scales), lr=0.0, betas=betas)


def learning_rate(step: int, steps: int, peak: float, least: float = 0.0, warmup: int = 0) -> float:
    """Linear up to the peak in `warmup` steps, then half a cosine down to `least` at the last one.

    A function of the step alone, so that there is nothing to save and nothing to restore.

    Args:
        step: 0 for the first.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group["scale"]
