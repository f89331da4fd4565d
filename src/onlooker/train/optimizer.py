"""AdamW without decay on norms and biases, Muon for matrices, and the learning rate of every step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
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


#: tables and output heads, whose rows stand for single words or places: no direction of theirs is like another
_TABLES = re.compile(r"embed|lm_head|shared|_head\b|relative_attention_bias|\bclassifier")


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices within layers, AdamW for tables, output heads, norms and biases.

    Muon makes the update of a matrix orthogonal (Jordan et al., 2024); updates are scaled to the size that AdamW's
    have (arXiv:2502.16982, section 2.2), so that both share one learning rate.

    Raises:
        ValueError: nothing in the module learns.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        scales: Mapping[str, float] | None = None,
    ) -> None:
        matrices = {
            id(parameter)
            for name, parameter in module.named_parameters()
            if parameter.ndim == 2 and min(parameter.shape) > 1 and not _TABLES.search(name)
        }
        groups = parameter_groups(module, weight_decay, scales)
        inner = [_only(group, lambda p: id(p) in matrices) for group in groups]
        others = [_only(group, lambda p: id(p) not in matrices) for group in groups]
        self.parts: list[torch.optim.Optimizer] = []
        if any(group["params"] for group in inner):
            muon = torch.optim.Muon([g for g in inner if g["params"]], lr=0.0, adjust_lr_fn="match_rms_adamw")
            self.parts.append(muon)
        if any(group["params"] for group in others):
            self.parts.append(torch.optim.AdamW([g for g in others if g["params"]], lr=0.0, betas=betas))
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def _only(group: dict[str, Any], keep: Callable[[nn.Parameter], bool]) -> dict[str, Any]:
    return {**group, "params": [parameter for parameter in group["params"] if keep(parameter)]}


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
