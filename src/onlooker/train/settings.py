"""How a run of training goes: the numbers that one may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: may be other when a run is resumed, because they do not change what is learned
_FREE = ("output", "save_every", "keep", "log_every", "max_minutes", "tensorboard", "workers", "gradient_checkpointing")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    Args:
        output: folder of checkpoints, log and, at the end, the model in `model/`.
        steps: updates in all.
        batch_size: rows of one process at once; with `accumulate`, that many times as many make an update.
        learning_rate, min_learning_rate, warmup: half a cosine from the first to the second, after a linear rise.
        weight_decay: of matrices only.
        optimizer: "adamw", or "muon" for the matrices within layers, which learns small models from nothing in a third
            of the steps.
        learning_rate_scales: regex of a parameter name -> factor of the learning rate.
        max_grad_norm: gradients are scaled down to this length; 0 leaves them.
        mixed_precision: "no", "bf16" or "fp16"; None takes what `accelerate config` says.
        average: decay of a moving average of what learns; the model at the end is then the average.
        gradient_checkpointing: compute activations again in the backward pass, for less memory.
        save_every, keep: updates between checkpoints, and how many are kept.
        log_every: updates between lines of the log, each the mean since the last.
        max_minutes: stop after so long, with a checkpoint to go on from.
        tensorboard: None writes its files when the package is there.
        workers: processes that read ahead.

    Raises:
        ValueError: a number that makes no sense.
    """

    output: Path
    steps: int
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 1e-4
    min_learning_rate: float = 0.0
    warmup: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    optimizer: str = "adamw"
    learning_rate_scales: Mapping[str, float] | None = None
    max_grad_norm: float = 1.0
    mixed_precision: str | None = None
    average: float | None = None
    gradient_checkpointing: bool = False
    seed: int = 0
    save_every: int = 1000
    keep: int = 2
    log_every: int = 10
    max_minutes: float | None = None
    tensorboard: bool | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        for name in ("steps", "batch_size", "accumulate", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer is {self.optimizer!r}; it may be 'adamw' or 'muon'")
        if not 0 < self.learning_rate < 10:
            raise ValueError(f"learning_rate is {self.learning_rate}; it lies between 0 and 10, such as 1e-4")
        if not 0 <= self.warmup <= self.steps:
            raise ValueError(f"warmup is {self.warmup}; it lies between 0 and the {self.steps} steps")
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision is {self.mixed_precision!r}; it may be 'no', 'bf16' or 'fp16'")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"output": str(self.output), "betas": list(self.betas)}

    def check_same(self, earlier: Mapping[str, Any]) -> None:
        """Refuse to resume a run with settings that would lead elsewhere.

        Raises:
            ValueError: names what differs.
        """
        own = self.to_dict()
        different = [name for name, value in own.items() if name not in _FREE and earlier.get(name, value) != value]
        if different:
            said = ", ".join(f"{name} was {earlier[name]} and is {own[name]}" for name in different)
            raise ValueError(f"a run is resumed with the settings it began with: {said}. Or begin anew elsewhere.")
