"""Runs what is asked for, row by row, and keeps a report that is whole after every row."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from onlooker.bench.contest import Outcome, measure
from onlooker.bench.limits import limits
from onlooker.bench.peer import versions
from onlooker.bench.settings import Settings
from onlooker.bench.table import chosen
from onlooker.native import library


@dataclass
class Report:
    """What was found so far."""

    versions: dict[str, str]
    limits: dict[str, float]
    rounds: int
    threads: int
    is_tiny: bool
    has_native: bool
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Rows whose results are not those of transformers, and should be."""
        return [outcome.row for outcome in self.outcomes if not outcome.verdict.agrees]

    def to_dict(self) -> dict[str, Any]:
        names = ("versions", "limits", "rounds", "threads", "is_tiny", "has_native", "failed")
        return {name: getattr(self, name) for name in names} | {"rows": [each.to_dict() for each in self.outcomes]}

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")


def run(
    names: Collection[str] = (),
    settings: Settings | None = None,
    depth: int | None = None,
    out: Path | None = None,
    begun: Callable[[Report], None] = lambda report: None,
    found: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Measure rows against transformers.

    Args:
        names: of rows or workloads; all where none is named.
        depth: layers of the language models, of 32; each workload has its own otherwise.
        out: JSON, written anew after every row.
        begun: called once, with the versions and the limits of the machine.
        found: called with every row.

    Raises:
        ValueError: a name that is not there.
        MissingExtraError: transformers is not installed.
    """
    settings = settings or Settings()
    wanted = chosen(names)
    told = versions()
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, of what random weights lack
            native = bool(library.features())
            report = Report(told, limits(settings), settings.rounds, settings.threads, settings.is_tiny, native)
            begun(report)
            for workload, rows in wanted.items():
                module = import_module(f"onlooker.bench.workloads.{workload.name}")
                mine = replace(settings, rows=rows, depth=depth or workload.depth)
                for contest in module.contests(mine):
                    for outcome in measure(contest, mine):
                        report.outcomes.append(outcome)
                        found(outcome)
                        if out is not None:
                            report.save(out)
                    del contest
                gc.collect()
    finally:
        torch.set_num_threads(before)
    return report
