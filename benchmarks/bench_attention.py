"""Attention in bfloat16 at LLaMA-7B's widths: compiled, against torch's fused kernel, in turns, one thread, CPU time.

Run: `python benchmarks/bench_attention.py`.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import torch
import torch.nn.functional as F

from onlooker.bench.timing import in_turns, ratio
from onlooker.native.attention import attention
from onlooker.native.library import has_bf16

HEADS, WIDTH = 32, 128
CASES = {  # positions that ask, positions of keys, causal
    "a step behind 300 positions": (1, 300, False),
    "a step behind 2,100 positions": (1, 2100, False),
    "a question of 20 behind 2,100": (20, 2120, False),
    "a prompt of 160": (160, 160, True),
    "a prompt of 2,100": (2100, 2100, True),
    "a picture of 257 patches": (257, 257, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    if not has_bf16():
        raise SystemExit("no compiler, or a processor without AVX512-BF16: there is nothing to compare")
    print("| | torch | compiled | ratio |\n|---|---|---|---|")
    for name, (positions, length, is_causal) in CASES.items():
        q, k, v = (torch.randn(1, HEADS, count, WIDTH).bfloat16() for count in (positions, length, length))
        ours = partial(attention, q, k, v, None, WIDTH**-0.5, is_causal)
        theirs = partial(F.scaled_dot_product_attention, q, k, v, is_causal=is_causal)
        with torch.inference_mode():
            calls = max(1, 2_000_000 // (positions * length))
            samples = in_turns({"theirs": theirs, "ours": ours}, rounds + 1, calls=calls)
        times = {way: [sample.seconds for sample in each[1:]] for way, each in samples.items()}
        middle, low, high = ratio(times["theirs"], times["ours"])
        seconds = (f"{1000 * statistics.median(each):.3g} ms" for each in times.values())
        print(f"| {name} | {' | '.join(seconds)} | {middle:.1f} ({low:.1f}..{high:.1f}) |")


if __name__ == "__main__":
    main()
