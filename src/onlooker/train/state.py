"""Checkpoints of a training run: everything that decides how it goes on, written so that a kill leaves the last whole.

A checkpoint is a folder `checkpoint-00001000` named for the updates done. It holds what learns (frozen parts come from
where the model came from), the optimiser, the moving average, and the random numbers of every process. The learning
rate and the place in the data are functions of the step.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onlooker.errors import CheckpointError

STATE_FILE, SETTINGS_FILE, RANDOM_FILE = "state.pt", "settings.json", "random-{rank}.pt"
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_folder(output: Path, step: int) -> Path:
    return output / f"checkpoint-{step:08d}"


def checkpoints(output: Path) -> dict[int, Path]:
    """Step -> folder of every whole checkpoint, oldest first."""
    if not output.is_dir():
        return {}
    found = {int(match[1]): each for each in output.iterdir() if (match := _NAME.fullmatch(each.name))}
    return dict(sorted(found.items()))


class Writer:
    """Writes one checkpoint beside its place; `finish` moves it there once every process is done."""

    def __init__(self, output: Path, step: int) -> None:
        self.output, self.step = output, step
        self.temporary = output / f".checkpoint-{step:08d}.part"

    def begin(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)

    def write(self, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        _save(dict(state), self.temporary / STATE_FILE)
        (self.temporary / SETTINGS_FILE).write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")

    def write_random(self, rank: int) -> None:
        _save(random_state(), self.temporary / RANDOM_FILE.format(rank=rank))

    def finish(self, keep: int) -> Path:
        """Give the checkpoint its name, then take away all but the newest `keep`."""
        final = checkpoint_folder(self.output, self.step)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(self.temporary, final)
        _sync_folder(self.output)
        for folder in list(checkpoints(self.output).values())[:-keep]:
            shutil.rmtree(folder)
        return final


def read_state(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `Writer.write` wrote.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return torch.load(folder / STATE_FILE, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{folder} is no whole checkpoint of a training run: {error}") from error


def read_settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))


def learned_tensors(stage: nn.Module) -> dict[str, Tensor]:
    """What learns, by name."""
    return {name: p.detach() for name, p in stage.named_parameters() if p.requires_grad}


@torch.no_grad()
def put_learned(stage: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """
    Raises:
        CheckpointError: other parameters learn here than in the run that wrote the checkpoint.
    """
    own = learned_tensors(stage)
    different = sorted(set(own) ^ set(tensors))
    if different:
        raise CheckpointError(
            f"the checkpoint is of a run in which other parameters learned: {len(different)} differ, such as "
            f"{different[0]}. Resume with the same stage, model and adapters."
        )
    for name, parameter in own.items():
        parameter.copy_(tensors[name])


def random_state() -> dict[str, Any]:
    """Every generator that training draws from in this process."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [str(name), torch.from_numpy(np.array(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(folder: Path, rank: int) -> None:
    """
    Raises:
        CheckpointError: the run had fewer processes.
    """
    file = folder / RANDOM_FILE.format(rank=rank)
    if not file.is_file():
        raise CheckpointError(f"{folder} knows no process {rank}: resume with as many processes as it was written by")
    state = torch.load(file, weights_only=True)
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _save(value: dict[str, Any], file: Path) -> None:
    with file.open("wb") as stream:
        torch.save(value, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
