"""What a GPU does: decoding step by step, by graphs and in transformers; prefill, vision, first token, memory.

Published widths with random weights in bfloat16; ways of doing one thing run in turns, and tokens are compared. Without
a GPU nothing is measured, and with `--dry` toys run on the CPU, to see that everything works.
Run: `make bench-gpu`, or `python benchmarks/bench_gpu.py --depth 8` on a small GPU.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

from onlooker.bench.peer import random_words
from onlooker.bench.settings import Settings
from onlooker.language import replay
from onlooker.models.blip2.parts import Blip2VisionModel
from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration
from onlooker.nn.attend import attend

PROMPT, CLIP = 64, 8 * 257 + 40  # positions: a caption's, and eight frames of Video-LLaVA with a question
ROWS = (1, 8)


class Bench:
    """Where and how often."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.is_dry = arguments.dry
        self.settings = Settings(depth=arguments.depth, is_tiny=arguments.dry)
        self.device = torch.device("cpu" if arguments.dry else "cuda")
        self.dtype = torch.float32 if arguments.dry else torch.bfloat16
        self.rounds, self.tokens = (1, 12) if arguments.dry else (arguments.rounds, arguments.tokens)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def in_turns(self, ways: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Wall seconds of each way in each round; two unmeasured rounds go first, in which graphs are captured."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(-2, self.rounds):
            for name in list(ways) if number % 2 else reversed(list(ways)):
                self.wait()
                start = time.perf_counter()
                ways[name]()
                self.wait()
                if number >= 0:
                    seconds[name].append(time.perf_counter() - start)
        return seconds

    def report(self, title: str, seconds: dict[str, list[float]], unit: str, count: int) -> None:
        """One line for each way; the ratio is that of the first way to this one, median of the rounds."""
        first = next(iter(seconds.values()))
        print(f"{title}")
        for name, taken in seconds.items():
            middle = statistics.median(taken)
            ratios = sorted(one / other for one, other in zip(first, taken))
            spread = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f}..{ratios[-1]:.2f})"
            print(f"  {name:<34} {1e3 * middle:9.2f} ms  {count / middle:10.1f} {unit}/s  {spread}")

    def build(self, model_class: Any, config: dict[str, Any]) -> Any:
        """A model with random weights, made where it runs."""
        torch.manual_seed(0)
        torch.set_default_dtype(self.dtype)
        try:
            with self.device:
                return model_class(model_class.config_class(**config)).eval()
        finally:
            torch.set_default_dtype(torch.float32)

    @contextmanager
    def memory(self, title: str) -> Any:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield
        if self.device.type == "cuda":
            print(f"  {title}: peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


@contextmanager
def without_graphs() -> Any:
    devices, replay.DEVICES = replay.DEVICES, ()
    try:
        yield
    finally:
        replay.DEVICES = devices


def peer(bench: Bench, ours: Any) -> Any:
    """The same model in transformers; None, with the reason printed, where that is not installed."""
    if importlib.util.find_spec("transformers") is None:
        print("  transformers is not installed: it is not measured")
        return None
    import transformers

    transformers.logging.set_verbosity_error()
    config = getattr(transformers, type(ours.config).__name__)(**ours.config.to_dict())
    torch.set_default_dtype(bench.dtype)
    try:
        with bench.device:
            theirs = getattr(transformers, type(ours).__name__)(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    theirs.load_state_dict(ours.state_dict(), strict=False, assign=True)  # ties are in it, name by name
    return theirs


def decoding(bench: Bench, name: str, ours: Any, prompt: int) -> None:
    theirs = peer(bench, ours)
    for rows in ROWS:
        ids = torch.cat([random_words(prompt, ours.config.vocab_size, seed) for seed in range(rows)]).to(bench.device)
        asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False}
        asked |= {"max_new_tokens": bench.tokens, "min_new_tokens": bench.tokens, "pad_token_id": 0}
        found: dict[str, Any] = {}

        def run(way: str, model: Any, asked: Any = asked, found: Any = found, **more: Any) -> None:
            with without_graphs() if way == "step by step" else torch.no_grad():
                found[way] = model.generate(**asked, **more)

        ways: dict[str, Callable[[], Any]] = {
            way: functools.partial(run, way, ours) for way in ("step by step", "graphs")
        }
        if theirs is not None:
            ways["transformers"] = functools.partial(run, "transformers", theirs)
            name_of_static = "transformers, static and compiled"  # on a GPU it compiles its step for such a cache
            static = functools.partial(run, name_of_static, theirs, cache_implementation="static")
            if runs(name_of_static, static):
                ways[name_of_static] = static
        with bench.memory(f"{name}, {rows} rows"), torch.no_grad():
            seconds = bench.in_turns(ways)
        title = f"{name}, {rows} rows, {bench.tokens} tokens behind {prompt} positions, prefill included"
        bench.report(title, seconds, "tokens", rows * bench.tokens)
        wanted = found["step by step"]
        for way, tokens in found.items():
            same = (tokens[:, -bench.tokens :] == wanted[:, -bench.tokens :]).float().mean()
            print(f"  tokens of {way} as step by step: {100 * same:.1f} %")


def runs(name: str, work: Callable[[], Any]) -> bool:
    """Whether something that may not be there works; the reason is printed where it does not."""
    try:
        work()
    except (RuntimeError, ValueError, TypeError, ImportError, AttributeError, NotImplementedError) as error:
        print(f"  {name} is not measured: {str(error).splitlines()[0][:120]}")
        return False
    return True


def first_token(bench: Bench, llama: Any) -> None:
    length = 100 if bench.is_dry else CLIP
    ids = random_words(length, llama.config.vocab_size).to(bench.device)
    embeds = llama.get_input_embeddings()(ids).detach()
    ways = {
        "prefill": lambda: llama.begin(embeds, None, 1),
        "generate(max_new_tokens=1)": lambda: llama.generate(ids, max_new_tokens=1),
    }
    with torch.no_grad():
        bench.report(f"first token behind {length} positions of LLaMA", bench.in_turns(ways), "positions", length)


def vision(bench: Bench) -> None:
    model = bench.build(Blip2VisionModel, bench.settings.vit_g())
    size, frames = bench.settings.image_size, 8
    pixels = torch.randn(frames, 3, size, size)
    ready = pixels.pin_memory() if bench.device.type == "cuda" else pixels
    there = pixels.to(bench.device, bench.dtype)
    ways = {
        "ViT-g": lambda: model(there),
        "ViT-g, upload included": lambda: model(pixels.to(bench.device).to(bench.dtype)),
        "ViT-g, upload from pinned memory": lambda: model(ready.to(bench.device, non_blocking=True).to(bench.dtype)),
    }
    with torch.no_grad(), bench.memory("ViT-g"):
        bench.report(f"{frames} frames of {size} x {size}", bench.in_turns(ways), "frames", frames)


def one_position(bench: Bench) -> None:
    """Attention of one position over a cache of a fixed size: which way should captured steps take?"""
    rows, heads, columns, width = (1, 4, 64, 16) if bench.is_dry else (1, 32, 2560, 128)
    make = lambda count: torch.randn(rows, heads, count, width, device=bench.device, dtype=bench.dtype)  # noqa: E731
    q, k, v = make(1), make(columns), make(columns)
    lengths = torch.full((rows,), columns * 4 // 5, dtype=torch.int32, device=bench.device)
    seen = torch.arange(columns, device=bench.device) <= lengths[:, None]
    mask = torch.where(seen, 0.0, -1e4).to(bench.dtype)[:, None, None]

    def products() -> Any:
        return ((q @ k.mT) * width**-0.5 + mask).softmax(-1) @ v

    ways: dict[str, Callable[[], Any]] = {
        "attend (sdpa with a mask)": lambda: attend(q, k, v, mask=mask),
        "two products": products,
        "sdpa without a mask, used columns": lambda: F.scaled_dot_product_attention(
            q, k[:, :, : columns * 4 // 5], v[:, :, : columns * 4 // 5]
        ),
    }
    if importlib.util.find_spec("flash_attn") is not None and not bench.is_dry:
        from flash_attn import flash_attn_with_kvcache

        flat = [each.transpose(1, 2) for each in (q, k, v)]
        ways["flash_attn_with_kvcache"] = lambda: flash_attn_with_kvcache(*flat, cache_seqlens=lengths)
    else:
        print("flash_attn is not installed: it is not measured")
    many = {name: lambda way=way: [way() for _ in range(100)] for name, way in ways.items()}
    with torch.no_grad():
        title = f"100 times one position over {columns} columns of {heads} heads of {width}"
        bench.report(title, bench.in_turns(many), "times", 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, default=32, help="layers of the language model, of 32")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="toys on the CPU: no measurement")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        print("torch sees no CUDA GPU here: nothing was measured (--dry runs toys on the CPU)")
        return
    bench = Bench(arguments)
    where = "a CPU, dry: these are no measurements" if bench.is_dry else torch.cuda.get_device_name()
    print(f"{where}; torch {torch.__version__}; {bench.settings.told(LLaMA=32, OPT=32, T5=24, ViT_g=39)}")
    one_position(bench)
    vision(bench)
    llama = bench.build(LlamaForCausalLM, bench.settings.llama())
    first_token(bench, llama)
    decoding(bench, "LLaMA", llama, 100 if bench.is_dry else CLIP)
    del llama
    decoding(bench, "OPT", bench.build(OPTForCausalLM, bench.settings.opt()), PROMPT)
    wide = {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_heads": 32}
    toy = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4}
    t5 = {
        **(toy if bench.is_dry else wide),
        "num_layers": bench.settings.layers(24),
        "vocab_size": bench.settings.words(32128),
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    decoding(bench, "T5", bench.build(T5ForConditionalGeneration, t5), PROMPT)


if __name__ == "__main__":
    main()
