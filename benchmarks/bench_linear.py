"""Linears of a few rows at published widths: torch's bfloat16 against every other way, in turns, one thread, CPU time.

Each way multiplies several weights in turn, so that none of them stays in the processor's caches, as in a model.
Run: `python benchmarks/bench_linear.py --rows 1 8 257 --shapes llama`.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from onlooker.bench.timing import in_turns, ratio
from onlooker.native import library
from onlooker.quant import packed
from onlooker.quant.linears import Int4Linear, Int8Linear
from onlooker.quant.packed import PackedLinear

SHAPES = {  # inputs, outputs
    "llama": [(4096, 4096), (4096, 11008), (11008, 4096)],
    "opt": [(2560, 2560), (2560, 10240), (10240, 2560)],
    "t5": [(2048, 5120)],
    "q-former": [(768, 768), (768, 3072)],
    "vit-g": [(1408, 6144), (6144, 1408)],
}
CACHE_BYTES = 120e6  # of int4 weights and scales, more than any cache


def layers(kind: str, inputs: int, outputs: int, count: int) -> list[nn.Module]:
    made = []
    for _ in range(count):
        if kind == "bfloat16":
            layer: Any = nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16)
        elif kind == "packed":
            layer = PackedLinear(inputs, outputs, bias=False, dtype=torch.bfloat16)
        elif kind == "int8":
            layer = Int8Linear(inputs, outputs)
            layer.weight.random_(-127, 128)
            layer.weight_scale.fill_(1e-3)
        else:
            layer = Int4Linear(inputs, outputs)
            layer.weight.random_(0, 256)
            layer.weight_scale.fill_(1e-3)
        made.append(layer.requires_grad_(False))
    return made


def ways(inputs: int, outputs: int, x: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Name -> the product with the next weight."""
    few = max(2, min(8, int(CACHE_BYTES / (inputs * outputs))))
    found: dict[str, Callable[[], Any]] = {}
    for kind in ("bfloat16", "packed", "int8", "int4"):
        for engine in ("torch",) if kind == "bfloat16" else ("native", "torch"):
            if engine == "native" and not library.features():
                continue
            turn = cycle(layers(kind, inputs, outputs, few))

            def work(turn: Any = turn, engine: str = engine) -> torch.Tensor:
                with nullcontext() if engine == "native" else library.disabled():
                    return next(turn)(x)

            for _ in range(2 * few):  # packs what is packed
                work()
            found[f"{kind} {engine}"] = work
    return found


def errors(inputs: int = 4096, outputs: int = 256) -> None:
    """Relative error of products with normal weights and activations."""
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs) * 0.02
    for rows in (8, 257):
        x = torch.randn(rows, inputs).bfloat16()
        exact = F.linear(x.double(), weight.double())
        for layer in (Int8Linear(inputs, outputs), Int4Linear(inputs, outputs), Int4Linear(inputs, outputs, None, 128)):
            layer.store(weight, torch.device("cpu"))
            name = layer.kind + (f" groups of {layer.group_size}" if isinstance(layer, Int4Linear) else "")
            for engine in ("native", "torch"):
                with nullcontext() if engine == "native" else library.disabled():
                    error = (layer(x).double() - exact).norm() / exact.norm()
                print(f"  {rows:4} rows  {name:20} {engine:7} {100 * error:6.3f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8, 64, 257])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--errors", action="store_true", help="errors instead of times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    packed.USES_BEFORE_PACKING = 1
    print(f"torch {torch.__version__}, {platform.machine()}, one thread; native: {bool(library.features())}")
    with torch.inference_mode():
        if options.errors:
            errors()
            return
        for name in options.shapes:
            for inputs, outputs in SHAPES[name]:
                for rows in options.rows:
                    report(name, inputs, outputs, rows, options.rounds)


def report(name: str, inputs: int, outputs: int, rows: int, rounds: int) -> None:
    works = ways(inputs, outputs, torch.randn(rows, inputs).bfloat16())
    calls = max(2, int(3e8 / (inputs * outputs * max(1, rows / 8))) // 4)
    for work in works.values():
        work()
    samples = in_turns(works, rounds, calls=calls)
    seconds = {way: [sample.seconds for sample in each] for way, each in samples.items()}
    reference = seconds["bfloat16 torch"]
    print(
        f"{name:9} {inputs:5} -> {outputs:5}  {rows:3} rows  bfloat16 {1e3 * sorted(reference)[rounds // 2]:8.2f} ms",
        end="",
    )
    for way in list(works)[1:]:
        print(f"  {way} {ratio(reference, seconds[way]).median:.2f}", end="")
    print(flush=True)


if __name__ == "__main__":
    main()
