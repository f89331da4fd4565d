"""What this machine can do at all: bytes read and products made in a second, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from onlooker.bench.settings import Settings
from onlooker.bench.timing import cpu_seconds, in_turns


def limits(settings: Settings) -> dict[str, float]:
    """The best of several rounds: memory in bytes a second, products of matrices in operations a second."""
    size = 1 << (20 if settings.is_tiny else 28)  # bytes; more than any cache
    width = 128 if settings.is_tiny else 1024
    buffer, target = torch.ones(size // 4), torch.empty(size // 4)
    ways: dict[str, Callable[[], Any]] = {
        "read": buffer.sum,
        "copied": lambda: target.copy_(buffer),
        **{str(dtype).removeprefix("torch."): _product(dtype, width) for dtype in (torch.float32, torch.bfloat16)},
        "int8": _product(torch.int8, width),
    }
    for work in ways.values():
        work()
    clock = cpu_seconds if settings.threads == 1 else time.perf_counter
    samples = in_turns(ways, 2 if settings.is_tiny else 5, clock)
    best = {name: max(min(sample.seconds for sample in each), 1e-9) for name, each in samples.items()}
    found = {"memory": max(size / best.pop("read"), 2 * size / best.pop("copied"))}
    return found | {name: 2 * width**3 / seconds for name, seconds in best.items()}


def _product(dtype: torch.dtype, width: int) -> Callable[[], Any]:
    if dtype == torch.int8:
        left, right = (torch.randint(-127, 128, (width, width)).to(dtype) for _ in range(2))
        return lambda: torch._int_mm(left, right)
    one, other = (torch.randn(width, width).to(dtype) for _ in range(2))
    return lambda: one @ other
