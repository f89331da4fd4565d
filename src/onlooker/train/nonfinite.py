"""Finds where a number stopped being finite: the first module that gave NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteLoss(ArithmeticError):
    """The loss, or a gradient, is NaN or infinite; the message names the module where that appeared first."""


def first_bad_weight(stage: nn.Module) -> str | None:
    """Name of the first parameter that is not finite."""
    bad = (name for name, parameter in stage.named_parameters() if not _is_finite(parameter))
    return next(bad, None)


def first_bad_gradient(stage: nn.Module) -> str | None:
    """Name of the last parameter, in the order of the forward pass, whose gradient is not finite.

    The backward pass runs from the end, so that this one was the first to break.
    """
    bad = [name for name, p in stage.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    return bad[-1] if bad else None


def first_bad_module(stage: nn.Module, batch: Mapping[str, Any]) -> str | None:
    """Run the batch again and name the module whose output was the first that is not finite, from finite inputs."""
    found: list[str] = []
    handles = []
    for name, module in stage.named_modules():

        def look(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if not found and not _is_finite(output):
                found.append(f"{name or 'the loss itself'} ({type(module).__name__})")

        handles.append(module.register_forward_hook(look))
    try:
        with torch.no_grad():
            stage(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def explain(stage: nn.Module, batch: Mapping[str, Any], step: int, terms: Mapping[str, float]) -> str:
    """What to say about a loss that is not finite: where it comes from and what may help."""
    shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    weight = first_bad_weight(stage)
    bad_input = next((name for name, value in batch.items() if not _is_finite(value)), None)
    if weight is not None:
        where = f"the parameter {weight} is not finite already"
        advice = "An earlier update broke it: lower the learning rate, warm up longer or clip the gradients."
    elif bad_input is not None:
        where = f"the input {bad_input} is not finite"
        advice = "Look at the rows of this batch."
    else:
        where = (
            f"it appeared first in {first_bad_module(stage, batch) or 'no module the second time (dropout differs)'}"
        )
        advice = "Try mixed_precision='bf16' or 'no', or a lower learning rate."
    return f"the loss of step {step} is not finite ({shown}): {where}. {advice} The last checkpoint is from before it."


def _is_finite(value: Any) -> bool:
    return all(bool(torch.isfinite(x).all()) for x in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)
