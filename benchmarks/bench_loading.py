"""Loading against the installed transformers: time and peak memory of the same BLIP-2 folder, in turns.

Each load runs in a process of its own, after the imports: `from_pretrained`, then every value is read once, so that
views on the file are paid for as well. Run: `make bench`, or `python benchmarks/bench_loading.py --gigabytes 1`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

import onlooker

_CHILD = """
import sys, time
import torch
if sys.argv[1] == "onlooker":
    import accelerate, safetensors.torch
    from onlooker import Blip2ForConditionalGeneration
else:
    from transformers import Blip2ForConditionalGeneration

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
before, start = status("VmRSS"), time.perf_counter()
model = Blip2ForConditionalGeneration.from_pretrained(sys.argv[2], dtype=getattr(torch, sys.argv[3]))
loaded = time.perf_counter()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.sum()
touched = time.perf_counter()
kept = sum(p.numel() * p.element_size() for p in model.parameters())
print([loaded - start, touched - start, (status("VmHWM") - before) / kept, kept])
"""
_NAMES = ("onlooker", "transformers")


def write_checkpoint(folder: Path, num_bytes: float) -> None:
    """Random float32 weights in the published widths: a third for the vision tower, the rest for OPT."""
    layer_bytes = {"vision": 4 * 11.5 * 1408**2, "text": 4 * 12 * 2560**2}
    config = onlooker.Blip2Config(
        vision_config={"num_hidden_layers": max(1, round(num_bytes / 3 / layer_bytes["vision"]))},
        qformer_config={"num_hidden_layers": 2},
        text_config={
            "hidden_size": 2560,
            "num_attention_heads": 32,
            "ffn_dim": 10240,
            "num_hidden_layers": max(1, round(num_bytes / 3 / layer_bytes["text"])),
            "vocab_size": round(num_bytes / 3 / 4 / 2560),
        },
        image_token_index=5,
    )
    with torch.device("meta"):
        model = onlooker.Blip2ForConditionalGeneration(config)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    model.save_pretrained(folder)


def measure(name: str, folder: Path, dtype: str) -> list[float]:
    """Seconds to load, seconds until every value was read, peak memory over the bytes kept, and those bytes."""
    command = [sys.executable, "-c", _CHILD, name, str(folder), dtype]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="what the float32 file becomes")
    args = parser.parse_args()
    print(
        f"onlooker {onlooker.__version__}, transformers {transformers.__version__}, torch {torch.__version__}, ", end=""
    )
    print(f"Python {platform.python_version()}, {platform.machine()}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), args.gigabytes * 1e9)
        for dtype in args.dtypes:
            found: dict[str, list[Any]] = {name: [] for name in _NAMES}
            for number in range(args.rounds + 1):
                for name in _NAMES if number % 2 else reversed(_NAMES):
                    result = measure(name, Path(folder), dtype)
                    if number:  # the first round warms the page cache
                        found[name].append(result)
            _report(dtype, found)


def _report(dtype: str, found: dict[str, list[Any]]) -> None:
    for name in _NAMES:
        load, read, peak, kept = (statistics.median(column) for column in zip(*found[name]))
        print(
            f"float32 -> {dtype}: {name:12} {load:6.2f} s to load, {read:6.2f} s until read, "
            f"peak x{peak:.2f} of {kept / 1e9:.2f} GB"
        )
    for number, what in enumerate(("loading", "loading and reading")):
        ratios = sorted(theirs[number] / ours[number] for ours, theirs in zip(*(found[name] for name in _NAMES)))
        print(f"    {what}: x{statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
