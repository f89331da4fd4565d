"""`python -m recipes.make`: train the checkpoints inside the package from nothing, run by run, each one resumable."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onlooker.train.loop import train
from onlooker.train.settings import Settings


@dataclass(frozen=True)
class Run:
    """One training: what it makes, of what, and how.

    Args:
        needs: runs whose results it starts from.
        parts: folder of all runs -> stage, rows and collator.
        settings: for `Settings`, without the output.
    """

    name: str
    needs: tuple[str, ...]
    parts: Callable[[Path], tuple[Any, Any, Callable[[list[Any]], dict[str, Any]]]]
    settings: dict[str, Any]


def go(run: Run, build: Path, minutes: float | None = None) -> bool:
    """Train one run, or go on with it; True when it is finished. The processor time is added up in time.json."""
    output = build / run.name
    if (output / "model").exists():
        return True
    missing = [name for name in run.needs if not (build / name / "model").exists()]
    if missing:
        raise SystemExit(f"{run.name} starts from {', '.join(missing)}: make them first")
    torch.manual_seed(0)
    stage, rows, collate = run.parts(build)
    common = {"tensorboard": False, "log_every": 25, "save_every": 500, "keep": 1}
    common |= {"mixed_precision": "no", "optimizer": "muon"}
    started = time.process_time()
    outcome = train(
        stage, rows, collate, Settings(output=output, max_minutes=minutes, **{**common, **run.settings}), resume=True
    )
    _add_time(output / "time.json", time.process_time() - started)
    return outcome.is_finished


def _add_time(file: Path, seconds: float) -> None:
    before = json.loads(file.read_text())["cpu_seconds"] if file.exists() else 0.0
    facts = {"cpu_seconds": round(before + seconds, 1), "machine": platform.machine(), "torch": torch.__version__}
    file.write_text(json.dumps({**facts, "threads": torch.get_num_threads()}) + "\n")


def main() -> int:
    from recipes.runs import RUNS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/checkpoints"), help="folder of all runs")
    parser.add_argument("--only", nargs="*", choices=[run.name for run in RUNS], help="these runs instead of all")
    parser.add_argument("--minutes", type=float, help="stop a run after so long; the next call goes on from there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for run in RUNS:
        if options.only and run.name not in options.only:
            continue
        print(f"{run.name} ...", flush=True)
        if not go(run, options.build, options.minutes):
            print(f"{run.name} is not finished; the same command goes on from here")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
