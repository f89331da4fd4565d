"""The record of a run: one JSON line for every logged step, and TensorBoard's files where that is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onlooker.errors import MissingExtraError

LOG_FILE = "log.jsonl"


class Log:
    """Writes into `output`.

    Args:
        output: folder of the run.
        step: updates done before; what a killed run wrote behind that is taken away.
        tensorboard: None writes its files when the package is there.

    Raises:
        MissingExtraError: tensorboard=True without the package.
    """

    def __init__(self, output: Path, step: int = 0, tensorboard: bool | None = None) -> None:
        installed = importlib.util.find_spec("tensorboard") is not None
        if tensorboard and not installed:
            raise MissingExtraError("tensorboard", extra="train")
        output.mkdir(parents=True, exist_ok=True)
        self.file = output / LOG_FILE
        lines = [line for line in read_log(output) if line["step"] <= step] if step else []
        self.file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.board: Any = None
        if installed and tensorboard is not False:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def read_log(output: Path) -> list[dict[str, float]]:
    """The lines of a run's log; a last line that a kill cut short is left out."""
    file = output / LOG_FILE
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
