"""BLIP-2 part by part against the installed transformers: the same weights, in turns, one thread, process CPU time.

Widths are the published ones (ViT-g, Q-Former, OPT-2.7B, Flan-T5-XL), depths are cut so that a round takes seconds;
a part's time is linear in its depth. Run: `make bench`, or `python benchmarks/bench_blip2.py --dtype bfloat16`.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from interleaved import compare, ratio

import onlooker

PROMPT = 32 + 16  # placeholders and words
NEW_TOKENS = 24


def shape(text: str, depth: int) -> dict[str, Any]:
    """Published widths, `depth` layers in each part."""
    texts = {
        "opt": {
            "model_type": "opt",
            "hidden_size": 2560,
            "word_embed_proj_dim": 2560,
            "num_attention_heads": 32,
            "ffn_dim": 10240,
            "num_hidden_layers": depth,
            "vocab_size": 50304,
        },
        "t5": {
            "model_type": "t5",
            "d_model": 2048,
            "d_kv": 64,
            "d_ff": 5120,
            "num_heads": 32,
            "num_layers": depth,
            "feed_forward_proj": "gated-gelu",
            "dense_act_fn": "gelu",
            "tie_word_embeddings": False,
            "vocab_size": 32128,
            "decoder_start_token_id": 0,
        },
    }
    return {
        "vision_config": {"num_hidden_layers": depth},
        "qformer_config": {"num_hidden_layers": 4},
        "text_config": texts[text],
        "image_token_index": 5,
    }


def tiny_shape(text: str) -> dict[str, Any]:
    """A model so small that the time goes into starting operations."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    texts = {
        "opt": {
            "model_type": "opt",
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "num_hidden_layers": 6,
            "vocab_size": 400,
        },
        "t5": {
            "model_type": "t5",
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_heads": 4,
            "num_layers": 6,
            "vocab_size": 400,
            "decoder_start_token_id": 0,
        },
    }
    return {
        "vision_config": {**small, "image_size": 56},
        "qformer_config": small,
        "text_config": texts[text],
        "image_token_index": 5,
    }


def both(values: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The model in this package and in transformers, from one folder of random weights."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = onlooker.Blip2ForConditionalGeneration(onlooker.Blip2Config(**values))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1 or not name.endswith("weight"):
                    parameter.normal_(0, 0.02)
        model.save_pretrained(folder)
        del model
        ours = onlooker.Blip2ForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        theirs = transformers.Blip2ForConditionalGeneration.from_pretrained(folder, dtype=dtype)
        for parameter in ours.parameters():
            parameter.data = parameter.data.clone()  # off the mapped file, which is about to go
    return {"transformers": theirs.eval(), "onlooker": ours.eval()}


def parts(models: dict[str, Any], values: dict[str, Any], dtype: torch.dtype) -> dict[str, Callable[[Any], Any]]:
    """Name -> the work of one part, given a model of either library."""
    size = values["vision_config"].get("image_size", 224)
    pixels = torch.randn(1, 3, size, size).to(dtype)
    words = torch.randint(10, 300, (1, PROMPT - 32))
    ids = torch.cat([torch.full((1, 32), 5), words], 1)
    config = models["onlooker"].config
    seen = torch.randn(1, (size // 14) ** 2 + 1, config.vision_config.hidden_size).to(dtype)
    embeds = torch.randn(1, PROMPT, config.text_config.hidden_size).to(dtype)

    def queries(model: Any) -> Any:
        return model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=seen).last_hidden_state

    def prefill(model: Any) -> Any:
        options = {"decoder_input_ids": torch.zeros(1, 1, dtype=torch.long)} if config.is_encoder_decoder else {}
        return model.language_model(inputs_embeds=embeds, use_cache=True, **options).logits

    def write(count: int, **options: Any) -> Callable[[Any], Any]:
        def work(model: Any) -> Any:
            fixed = {"min_new_tokens": count, "max_new_tokens": count, "do_sample": False, **options}
            return model.generate(pixel_values=pixels, input_ids=ids, **fixed)

        return work

    return {
        "vision": lambda model: model.vision_model(pixels).last_hidden_state,
        "q-former": queries,
        "prefill": prefill,
        "answer, 1 token": write(1),
        f"answer, {NEW_TOKENS} tokens": write(NEW_TOKENS),
        f"answer, {NEW_TOKENS} tokens, 5 beams": write(NEW_TOKENS, num_beams=5),
    }


def report(title: str, models: dict[str, Any], works: dict[str, Callable[[Any], Any]], rounds: int, calls: int) -> None:
    print(f"\n{title}")
    print(f"  {'part':34} {'transformers / onlooker':>24}   {'smallest..largest':>18}  equal")
    medians: dict[str, dict[str, float]] = {}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, work in works.items():
            results = {which: work(model) for which, model in models.items()}
            seconds = compare({which: lambda m=m, w=work: w(m) for which, m in models.items()}, rounds, calls)
            middle, low, high = ratio(seconds, "transformers", "onlooker")
            print(f"  {name:34} {middle:24.2f}   {low:8.2f}..{high:8.2f}  {_equal(**results)}")
            medians[name] = {which: sorted(times)[len(times) // 2] for which, times in seconds.items()}
    one, many = medians["answer, 1 token"], medians[f"answer, {NEW_TOKENS} tokens"]
    step = {which: (many[which] - one[which]) / (NEW_TOKENS - 1) for which in one}
    print(f"  {'decode, one token (difference)':34} {step['transformers'] / step['onlooker']:24.2f}")


def _equal(transformers: torch.Tensor, onlooker: torch.Tensor) -> str:
    if transformers.shape != onlooker.shape:
        return "NO: other shapes"
    if not transformers.is_floating_point():
        return "tokens" if torch.equal(transformers, onlooker) else "NO: other tokens"
    return f"within {(transformers.float() - onlooker.float()).abs().max().item():.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--depth", type=int, default=3, help="layers in each part")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=["tiny", "wide"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, one thread")
    dtype = getattr(torch, options.dtype)
    for text in ("opt", "t5"):
        if options.only != "tiny":
            values = shape(text, options.depth)
            models = both(values, dtype)
            works = parts(models, values, dtype)
            report(
                f"published widths, {text}, {options.dtype}, depth {options.depth}", models, works, options.rounds, 1
            )
        if options.only != "wide":
            values = tiny_shape(text)
            models = both(values, torch.float32)
            works = parts(models, values, torch.float32)
            report(f"tiny, {text}, float32 (time goes into starting operations)", models, works, options.rounds, 3)


if __name__ == "__main__":
    main()
