"""What learns and what does not: by patterns of parameter names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from onlooker.nn.recompute import LayerStack

#: parameters that exist for the checkpoint's sake and never reach a loss
_UNUSED = r"(.*\.)?crossattention\.attention\.distance_embedding\."
#: what peft adds to a model
ADAPTER = r".*(\.lora_|\.modules_to_save\.)"


def freeze_all_but(model: nn.Module, trains: Sequence[str], never: Sequence[str] = ()) -> list[str]:
    """Let the parameters learn whose names begin with one of the patterns, and no others.

    Args:
        trains: regexes, matched from the start of the name.
        never: regexes of exceptions.

    Returns:
        The names of those that learn.

    Raises:
        ValueError: a pattern that fits no parameter, or one that is quantised.
    """
    names = dict(model.named_parameters())
    for pattern in trains:
        if not any(re.match(pattern, name) for name in names):
            some = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise ValueError(f"no parameter's name begins with {pattern!r}; this model has {some}")
    chosen = []
    for name, parameter in names.items():
        learns = any(re.match(pattern, name) for pattern in trains)
        learns = learns and not any(re.match(pattern, name) for pattern in (_UNUSED, *never))
        if learns and not parameter.is_floating_point():
            raise ValueError(f"{name} is quantised and cannot learn: train adapters (LoRA) in its place")
        parameter.requires_grad_(learns)
        if learns:
            chosen.append(name)
        else:
            parameter.grad = None
    return chosen


def settle(module: nn.Module, training: bool) -> None:
    """Train mode for the modules that have something to learn, eval mode (no dropout) for all others.

    A module without parameters, such as the dropout of an adapter, goes with the one that it is in. A frozen stack that
    gradients run through still recomputes its layers where gradient checkpointing is on.
    """
    if isinstance(module, LayerStack):
        module.recompute_in_eval = training
    parameters = list(module.parameters())
    learns = training and (not parameters or any(parameter.requires_grad for parameter in parameters))
    module.training = learns
    for child in module.children():
        _settle_below(child, learns, training)


def _settle_below(module: nn.Module, parent_learns: bool, training: bool) -> None:
    has_parameters = next(module.parameters(), None) is not None
    settle(module, training if has_parameters else parent_learns)
