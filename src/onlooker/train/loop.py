"""The training loop, on accelerate: one process or many, CPU or GPU, as `accelerate launch` and its config say."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onlooker.train import state as checkpoint
from onlooker.train.average import MovingAverage
from onlooker.train.batches import Batches
from onlooker.train.logs import Log
from onlooker.train.nonfinite import NonFiniteLoss, explain, first_bad_gradient
from onlooker.train.optimizer import MuonAdamW, adamw, learning_rate, set_learning_rate
from onlooker.train.settings import Settings
from onlooker.train.sharding import full_state, is_sharded, load_full_state, whole_state
from onlooker.train.stages import Stage

#: called after each update with the updates done and the terms of the loss
OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Outcome:
    """Where a run has got to: updates done, whether that is all of them, the last terms, and the model's folder."""

    step: int
    is_finished: bool
    terms: dict[str, float]
    model: Path | None


def train(
    stage: Stage,
    rows: Any,
    collate: Callable[[list[Any]], dict[str, Any]],
    settings: Settings,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
) -> Outcome:
    """Train a stage.

    Args:
        rows: see `Batches`.
        collate: list of rows -> dictionary of what the stage takes.
        resume: go on from the newest checkpoint in `settings.output`, if there is one. On a CPU the run then ends with
            the very weights that it would have had without the break.

    Raises:
        ValueError: there are checkpoints and resume is off, or settings that differ from the run that is resumed.
        NonFiniteLoss: the loss or a gradient became NaN or infinite.
        CheckpointError: a checkpoint of another run.
    """
    return _Run(stage, rows, collate, settings, resume, on_step).go()


class _Run:
    def __init__(
        self,
        stage: Stage,
        rows: Any,
        collate: Callable[[list[Any]], dict[str, Any]],
        settings: Settings,
        resume: bool,
        on_step: OnStep | None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        self.settings, self.on_step = settings, on_step
        AcceleratorState._reset_state()  # or a second run in this process could not have another precision
        self.accelerator = Accelerator(mixed_precision=settings.mixed_precision)
        self.rank, self.is_main = self.accelerator.process_index, self.accelerator.is_main_process
        folder = self._newest(resume)
        _seed(settings.seed + self.rank)
        if settings.gradient_checkpointing:
            stage.model.gradient_checkpointing_enable()
        make_optimizer = MuonAdamW if settings.optimizer == "muon" else adamw
        optimizer = make_optimizer(
            stage, weight_decay=settings.weight_decay, betas=settings.betas, scales=settings.learning_rate_scales
        )
        self.stage, self.optimizer = self.accelerator.prepare(stage, optimizer)
        if settings.average is not None and is_sharded(self.accelerator):
            raise ValueError("a moving average is not kept of a model in shards (FSDP): leave `average` out")
        self.average = None if settings.average is None else MovingAverage(self._plain(), settings.average)
        self.step = 0
        if folder is not None:
            self._restore(folder)
        self.batches = Batches(
            rows,
            collate,
            batch_size=settings.batch_size,
            seed=settings.seed,
            rank=self.rank,
            world=self.accelerator.num_processes,
            workers=settings.workers,
        ).start(self.step * settings.accumulate)
        self.log = Log(settings.output, self.step, settings.tensorboard) if self.is_main else None

    def _plain(self) -> Any:
        return self.accelerator.unwrap_model(self.stage)

    # -- the loop --------------------------------------------------------------------------------------------------

    def go(self) -> Outcome:
        settings, started = self.settings, time.monotonic()
        terms: dict[str, float] = {}
        since: list[dict[str, float]] = []
        saved = self.step
        self.stage.train()
        while self.step < settings.steps:
            terms = self._update()
            since.append(terms)
            if self.log and (self.step % settings.log_every == 0 or self.step == settings.steps):
                self.log.write(self.step, _mean(since))
                since = []
            if self.on_step is not None:
                self.on_step(self.step, terms)
            is_late = settings.max_minutes is not None and self._anyone(
                time.monotonic() - started > settings.max_minutes * 60
            )
            if self.step % settings.save_every == 0 or self.step == settings.steps or is_late:
                self._save()
                saved = self.step
            if is_late:
                break
        if saved != self.step:
            self._save()
        if self.log:
            self.log.close()
        is_finished = self.step >= settings.steps
        return Outcome(self.step, is_finished, terms, self._export() if is_finished else None)

    def _update(self) -> dict[str, float]:
        """One update from `accumulate` batches; the mean of their terms."""
        settings = self.settings
        rate = learning_rate(
            self.step, settings.steps, settings.learning_rate, settings.min_learning_rate, settings.warmup
        )
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        parts = []
        for number in range(settings.accumulate):
            is_last = number == settings.accumulate - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.stage):
                parts.append(self._backward(next(self.batches)))
        norm = self._clip()
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self._plain(), self.step)
        return {**_mean(parts), "gradient": norm, "learning_rate": rate}

    def _backward(self, batch: Mapping[str, Any]) -> dict[str, float]:
        from accelerate.utils import send_to_device

        batch = send_to_device(dict(batch), self.accelerator.device)
        before = torch.get_rng_state()
        losses: dict[str, Tensor] = self.stage(**batch)
        terms = dict(zip(losses, torch.stack([x.detach().float() for x in losses.values()]).tolist()))
        if self._anyone(not math.isfinite(terms["loss"])):
            torch.set_rng_state(before)
            raise NonFiniteLoss(explain(self._plain(), batch, self.step + 1, terms))
        self.accelerator.backward(losses["loss"] / self.settings.accumulate)
        return terms

    def _clip(self) -> float:
        """Length of the gradient before it is cut.

        Raises:
            NonFiniteLoss: it is not finite. (With fp16 that is common, and the update is left out.)
        """
        limit = self.settings.max_grad_norm or math.inf
        if is_sharded(self.accelerator):
            norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), limit)
        else:  # in two steps: a factor that is not finite would spoil every gradient before the bad one is named
            self.accelerator.unscale_gradients()
            learning = [p for p in self.stage.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm([p.grad for p in learning])
            if math.isfinite(float(norm)):
                torch.nn.utils.clip_grads_with_norm_(learning, limit, norm)
        if not math.isfinite(float(norm)) and self.accelerator.scaler is None:
            raise NonFiniteLoss(
                f"the loss of step {self.step + 1} is finite and its gradient is not: it appeared first in "
                f"{first_bad_gradient(self._plain())}. Try a lower learning rate or mixed_precision='no'. The last "
                f"checkpoint is from before it."
            )
        return float(norm)

    def _anyone(self, fact: bool) -> bool:
        """Whether it is so in any process: all must leave the loop together."""
        if self.accelerator.num_processes == 1:
            return fact
        return bool(self.accelerator.reduce(torch.tensor(float(fact), device=self.accelerator.device)) > 0)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _newest(self, resume: bool) -> Path | None:
        found = checkpoint.checkpoints(self.settings.output)
        if found and not resume:
            raise ValueError(
                f"{self.settings.output} holds checkpoints of an earlier run: resume it (resume=True, --resume), or "
                f"give another output folder"
            )
        if not found:
            return None
        folder = list(found.values())[-1]
        self.settings.check_same(checkpoint.read_settings(folder))
        return folder

    def _save(self) -> None:
        writer = checkpoint.Writer(self.settings.output, self.step)
        state = full_state(self.accelerator, self.stage, self.optimizer)
        state |= {"step": self.step, "average": None if self.average is None else self.average.shadows}
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.is_main:
            writer.begin()
            writer.write(state, self.settings.to_dict())
        self.accelerator.wait_for_everyone()
        writer.write_random(self.rank)
        self.accelerator.wait_for_everyone()
        if self.is_main:
            writer.finish(self.settings.keep)
        self.accelerator.wait_for_everyone()

    def _restore(self, folder: Path) -> None:
        state = checkpoint.read_state(folder)
        load_full_state(self.accelerator, self.stage, self.optimizer, state)
        if self.average is not None:
            self.average.load(state["average"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        checkpoint.restore_random(folder, self.rank)

    def _export(self) -> Path:
        """Write the model, averaged if an average was asked for."""
        folder = self.settings.output / "model"
        state = whole_state(self.accelerator, self.stage)
        if self.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            stage = self._plain()
            if self.average is not None:
                state = {**stage.state_dict(), **self.average.shadows}
            stage.save(folder, state or None)
        self.accelerator.wait_for_everyone()
        return folder


def _mean(parts: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]} if parts else {}


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
