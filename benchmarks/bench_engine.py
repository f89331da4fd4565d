"""Requests of mixed length in the engine against transformers, and single tokens of tiny models, in turns.

Eight requests, each with a prompt and an answer of its own length: the engine, transformers with one padded batch that
runs until its longest answer is written, and transformers one by one. Process CPU time, one thread, the same weights;
the tokens are compared. Run: `python benchmarks/bench_engine.py`, or `--only tiny`, `--only wide --dtype bfloat16`.
"""

from __future__ import annotations

import argparse
import platform
import random
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from interleaved import compare, ratio

from onlooker.engine import Engine
from onlooker.models.generation import Prompt
from onlooker.models.language import LlamaForCausalLM, OPTForCausalLM, T5ForConditionalGeneration

PAD = 1
CLASSES = {
    "opt": (OPTForCausalLM, transformers.OPTForCausalLM),
    "llama": (LlamaForCausalLM, transformers.LlamaForCausalLM),
    "t5": (T5ForConditionalGeneration, transformers.T5ForConditionalGeneration),
}
TINY: dict[str, dict[str, Any]] = {
    "opt": {"hidden_size": 64, "word_embed_proj_dim": 64, "num_attention_heads": 4, "ffn_dim": 128},
    "llama": {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 176},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_heads": 4, "num_layers": 6, "num_decoder_layers": 6},
}
WIDE: dict[str, dict[str, Any]] = {  # OPT-2.7B, Vicuna-7B, Flan-T5-XL
    "opt": {"hidden_size": 2560, "word_embed_proj_dim": 2560, "num_attention_heads": 32, "ffn_dim": 10240},
    "llama": {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008},
    "t5": {"d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_heads": 32, "feed_forward_proj": "gated-gelu"},
}


def config(family: str, is_tiny: bool, depth: int) -> dict[str, Any]:
    values = {**(TINY if is_tiny else WIDE)[family], "vocab_size": 400 if is_tiny else 32000, "pad_token_id": PAD}
    values |= {"eos_token_id": None, "bos_token_id": 2}
    if family == "t5":
        layers = 6 if is_tiny else depth
        return values | {"decoder_start_token_id": 0, "num_layers": layers, "num_decoder_layers": layers}
    return values | {"num_hidden_layers": 6 if is_tiny else depth, "max_position_embeddings": 1024}


def both(family: str, is_tiny: bool, depth: int, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model in this package and in transformers, from one folder of random weights."""
    our_class, their_class = CLASSES[family]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        made = our_class(our_class.config_class(**config(family, is_tiny, depth)))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.05)
        made.save_pretrained(folder)
        del made
        ours = our_class.from_pretrained(folder, dtype=dtype).eval()
        theirs = their_class.from_pretrained(folder, dtype=dtype).eval()
        for parameter in ours.parameters():
            parameter.data = parameter.data.clone()  # off the mapped file, which is about to go
    return ours, theirs


class Requests:
    """Eight prompts with the number of tokens that each wants."""

    def __init__(self, ours: Any, theirs: Any, seed: int = 0) -> None:
        rng = random.Random(seed)
        self.ours, self.theirs = ours, theirs
        self.is_seq2seq = ours.config.model_type == "t5"
        lengths = [rng.randint(8, 160) for _ in range(8)]
        self.ids = [torch.tensor([[rng.randint(4, 390) for _ in range(length)]]) for length in lengths]
        self.new = [rng.randint(8, 64) for _ in lengths]

    def engine(self) -> list[list[int]]:
        engine, embed = Engine(self.ours, max_rows=8), self.ours.get_input_embeddings()
        with torch.no_grad():
            prompts = [Prompt(embed(ids), torch.ones_like(ids), ids) for ids in self.ids]
        requests = [engine.submit(prompt, max_new_tokens=new) for prompt, new in zip(prompts, self.new)]
        engine.run()
        return [request.tokens for request in requests]

    def padded(self) -> list[list[int]]:
        longest = max(ids.shape[1] for ids in self.ids)
        pads = [longest - ids.shape[1] for ids in self.ids]
        batch = torch.cat([torch.nn.functional.pad(ids, (pad, 0), value=PAD) for ids, pad in zip(self.ids, pads)])
        mask = (torch.arange(longest) >= torch.tensor(pads)[:, None]).long()
        out = self.theirs.generate(batch, attention_mask=mask, max_new_tokens=max(self.new), do_sample=False)
        start = 1 if self.is_seq2seq else longest
        return [row[start : start + new].tolist() for row, new in zip(out, self.new)]

    def one_by_one(self) -> list[list[int]]:
        answers = []
        for ids, new in zip(self.ids, self.new):
            out = self.theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
            answers.append(out[0, 1 if self.is_seq2seq else ids.shape[1] :].tolist())
        return answers


def measure_requests(title: str, ours: Any, theirs: Any, rounds: int) -> None:
    requests = Requests(ours, theirs)
    ways: dict[str, Callable[[], Any]] = {
        "engine": requests.engine,
        "padded batch": requests.padded,
        "one by one": requests.one_by_one,
    }
    wanted = requests.one_by_one()
    equal = {name: "tokens" if work() == wanted else "NO: other tokens" for name, work in ways.items()}
    seconds = compare(ways, rounds)
    for name in ("padded batch", "one by one"):
        middle, low, high = ratio(seconds, name, "engine")
        row = f"{title}, 8 requests, {name} / engine"
        print(f"  {row:58} {middle:6.2f}   {low:6.2f}..{high:6.2f}  {equal['engine']}")


def measure_tokens(title: str, ours: Any, theirs: Any, rounds: int, count: int = 33) -> None:
    """Time of one more token: an answer of `count` less an answer of one."""
    ids = torch.randint(4, 390, (1, 48), generator=torch.Generator().manual_seed(0))

    def write(model: Any, new: int) -> Any:
        return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)

    ways = {f"{name} {new}": (model, new) for name, model in (("o", ours), ("t", theirs)) for new in (1, count)}
    seconds = compare({name: lambda w=way: write(*w) for name, way in ways.items()}, rounds)
    steps = {
        name: [many - one for many, one in zip(seconds[f"{name} {count}"], seconds[f"{name} 1"])] for name in ("o", "t")
    }
    middle, low, high = ratio(steps, "t", "o")
    equal = "tokens" if write(ours, count).tolist() == write(theirs, count).tolist() else "NO: other tokens"
    microseconds = min(steps["o"]) / (count - 1) * 1e6
    row = f"{title}, decode, transformers / onlooker"
    print(f"  {row:58} {middle:6.2f}   {low:6.2f}..{high:6.2f}  {equal}; {microseconds:.0f} us a token here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the wide models")
    parser.add_argument("--depth", type=int, default=2, help="layers of the wide models")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["tiny", "wide"])
    parser.add_argument("--families", default="opt,t5,llama")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, one thread")
    print(f"  {'work':58} median   smallest..largest")
    for family in options.families.split(","):
        if options.only != "wide":
            ours, theirs = both(family, True, 6, torch.float32)
            measure_tokens(f"tiny {family}", ours, theirs, options.rounds)
            measure_requests(f"tiny {family}", ours, theirs, options.rounds)
        if options.only != "tiny":
            ours, theirs = both(family, False, options.depth, getattr(torch, options.dtype))
            measure_requests(f"{options.depth} wide layers of {family}, {options.dtype}", ours, theirs, options.rounds)


if __name__ == "__main__":
    main()
