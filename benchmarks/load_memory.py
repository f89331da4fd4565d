"""Measures the memory that loading takes: peak resident bytes above torch, against the bytes of the weights kept.

    python benchmarks/load_memory.py [--gigabytes 2.2] [--save-as float32] [--load-as float32 bfloat16]

Random weights of a large OPT are written to a temporary folder, then each load runs in a process of its own: it reads
every value once, so that views on the files count as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHILD = """
import json, resource, sys, threading, time
import torch
from onlooker import OPTForCausalLM  # and everything that loading imports
import accelerate, safetensors.torch

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
before = status("VmRSS")
start = time.perf_counter()
model = OPTForCausalLM.from_pretrained(sys.argv[1], torch_dtype=sys.argv[2])
loaded = time.perf_counter() - start
after_load = status("VmHWM") - before
with torch.no_grad():
    for parameter in model.parameters():
        parameter.flatten()[:: 2048 // parameter.element_size()].sum()  # touches every page
kept = sum(p.numel() * p.element_size() for p in model.parameters())
peak = status("VmHWM") - before
print(json.dumps({"kept": kept, "peak_load": after_load, "peak": peak, "ratio": peak / kept, "seconds": loaded}))
"""


def write_checkpoint(
    folder: Path, num_bytes: int, dtype_name: str, safe_serialization: bool = True, shards: int = 4
) -> None:
    """Save a random OPT of about `num_bytes` bytes, in shards, with a large embedding as published models have."""
    import torch

    from onlooker import OPTConfig, OPTForCausalLM

    dtype = getattr(torch, dtype_name)
    vocab, hidden = 50304, 1024 if num_bytes < 10**9 else 2048
    if num_bytes < 5 * 10**8:
        vocab, hidden = 16384, 768
    layer = 12 * hidden * hidden * dtype.itemsize
    layers = max(1, (num_bytes - vocab * hidden * dtype.itemsize) // layer)
    config = OPTConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        ffn_dim=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
    )
    with torch.device("meta"):
        model = OPTForCausalLM(config)
    model = model.to(dtype).to_empty(device="cpu")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    model.save_pretrained(folder, max_shard_size=2 * num_bytes // shards, safe_serialization=safe_serialization)


def measure(folder: Path, dtype_name: str) -> dict[str, float]:
    """Load in a fresh process and report its peak above the imports."""
    command = [sys.executable, "-c", _CHILD, str(folder), dtype_name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.2, help="size of the files")
    parser.add_argument("--save-as", default="float32")
    parser.add_argument("--load-as", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--bin", action="store_true", help="write .bin files instead of safetensors")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_checkpoint(Path(folder), int(args.gigabytes * 1e9), args.save_as, not args.bin)
        print(f"wrote {args.save_as} in {time.perf_counter() - start:.1f} s")
        for dtype in args.load_as:
            found = measure(Path(folder), dtype)
            print(
                f"{args.save_as} -> {dtype}: {found['kept'] / 1e9:.2f} GB kept, peak {found['peak'] / 1e9:.2f} GB "
                f"(x{found['ratio']:.3f}; while loading {found['peak_load'] / 1e9:.2f} GB), {found['seconds']:.2f} s"
            )


if __name__ == "__main__":
    main()
