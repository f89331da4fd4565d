"""State of model and optimiser by name, whole, whether one process holds all of it or each a shard (FSDP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from onlooker.train.state import learned_tensors, put_learned


def is_sharded(accelerator: Any) -> bool:
    from accelerate.utils import DistributedType

    return accelerator.distributed_type == DistributedType.FSDP


def _options() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


def full_state(accelerator: Any, stage: Any, optimizer: Any) -> dict[str, Any]:
    """What learns and its optimiser, to be saved by the main process; every process must ask."""
    if not is_sharded(accelerator):
        return {
            "model": learned_tensors(accelerator.unwrap_model(stage)),
            "optimizer": optimizer.optimizer.state_dict(),
        }
    from torch.distributed.checkpoint.state_dict import get_state_dict

    model, optimizing = get_state_dict(stage, optimizer.optimizer, options=_options())
    return {"model": model, "optimizer": optimizing}


def load_full_state(accelerator: Any, stage: Any, optimizer: Any, state: Mapping[str, Any]) -> None:
    """Put back what `full_state` gave."""
    if not is_sharded(accelerator):
        put_learned(accelerator.unwrap_model(stage), state["model"])
        optimizer.optimizer.load_state_dict(state["optimizer"])
        return
    from torch.distributed.checkpoint.state_dict import set_state_dict

    set_state_dict(
        stage,
        optimizer.optimizer,
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=_options(),
    )


def whole_state(accelerator: Any, stage: Any) -> dict[str, Tensor]:
    """Every tensor of the stage, gathered, where it is sharded; else nothing, because the module itself has it."""
    return accelerator.get_state_dict(stage) if is_sharded(accelerator) else {}
