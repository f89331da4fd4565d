"""The next question about a clip, and ten questions about one, against transformers: the same weights, in turns.

Video-LLaVA with published widths and random weights; depths are cut (`--layers`), which is to our disadvantage: the
head that every first token needs is run in full. transformers is given pixel values, so that only its model is
measured; our times are those of `Onlooker.ask`. One thread, process CPU time. Run: `python benchmarks/bench_reuse.py`.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from interleaved import compare, ratio

import onlooker
from onlooker import Cache, Onlooker

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "tests" / "data" / "media" / "videos" / "flower_hevc.mp4"
QUESTIONS = [
    *("What is in the picture?", "Is it raining?", "How many cats are there?", "Why is this video funny?"),
    *("What is on the table?", "Is it sunny and warm?", "Who is sitting on a chair?", "What is the answer?"),
    *("Is there a cup of coffee?", "How many wooden chairs are there?"),
]


def config(layers: int, scale: int, tokenizer: Any) -> onlooker.VideoLlavaConfig:
    """CLIP-L and LLaMA-7B, with so many layers, their widths divided by `scale`."""
    text = {
        "model_type": "llama",
        "hidden_size": 4096 // scale,
        "intermediate_size": 11008 // scale,
        "num_attention_heads": 32 // scale,
        "num_hidden_layers": layers,
        "vocab_size": 32064,
    }
    return onlooker.VideoLlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024 // scale,
            "intermediate_size": 4096 // scale,
            "num_hidden_layers": layers + 1,
            "num_attention_heads": 16 // scale,
            "image_size": 224,
            "patch_size": 14,
        },
        text_config={**text, **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )


def both(layers: int, scale: int, dtype: torch.dtype) -> tuple[Onlooker, Any]:
    """A pipeline here and the model in transformers, from one folder of random weights."""
    sys.path.insert(0, str(ROOT))
    from examples.random_checkpoint import write_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(folder, "video-llava")
        processor = onlooker.AutoProcessor.from_pretrained(folder)
        torch.manual_seed(0)
        model = onlooker.VideoLlavaForConditionalGeneration(config(layers, scale, processor.tokenizer)).to(dtype)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1 or not name.endswith("weight"):
                    parameter.normal_(0, 0.02)
        model.save_pretrained(folder)
        theirs = transformers.VideoLlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    gc.collect()
    return Onlooker(model.eval(), processor), theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--scale", type=int, default=1, help="divides the widths, for a quick look")
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16, help="of each of the ten answers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    eyes, theirs = both(arguments.layers, arguments.scale, getattr(torch, arguments.dtype))
    frames = onlooker.load_video(CLIP, num_frames=8)
    questions = QUESTIONS[: arguments.questions]
    batches = [
        eyes.processor(text=f"USER: <video>\n{text} ASSISTANT:", videos=[frames], return_tensors="pt").to(
            getattr(torch, arguments.dtype)
        )
        for text in questions
    ]
    shape = f"widths / {arguments.scale}, {arguments.layers} layers, {batches[0]['input_ids'].shape[1]} positions"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}"
    print(f"Video-LLaVA, {shape}, {arguments.dtype}, one thread, {versions}")

    def written(batch: Any, count: int) -> list[int]:
        ids = theirs.generate(**batch, min_new_tokens=count, max_new_tokens=count, do_sample=False)
        return ids[0, batch["input_ids"].shape[1] :].tolist()

    def asked(medium: Any, text: Any, count: int) -> Any:
        return eyes.ask(medium, text, min_new_tokens=count, max_new_tokens=count)

    def ours_from_nothing(as_list: bool) -> list[Any]:
        eyes.cache.clear()
        if as_list:
            return asked(frames, questions, arguments.tokens)
        return [asked(frames, text, arguments.tokens) for text in questions]

    seen = eyes.encode(frames)
    asked(seen, questions[0], 1)
    asked(str(CLIP), questions[0], 1)
    report(
        "next question, to the first token",
        {
            "transformers": lambda: written(batches[-1], 1),
            "onlooker": lambda: asked(seen, questions[-1], 1),
            "onlooker, by its file": lambda: asked(str(CLIP), questions[-1], 1),
        },
        arguments.rounds,
    )
    print(f"  {eyes.cache}")
    report(
        f"{len(questions)} questions, {arguments.tokens} tokens each",
        {
            "transformers": lambda: [written(batch, arguments.tokens) for batch in batches],
            "onlooker": lambda: ours_from_nothing(as_list=False),
            "onlooker, as a list": lambda: ours_from_nothing(as_list=True),
        },
        max(arguments.rounds // 3, 1),
    )
    check(eyes, questions, [written(batch, arguments.tokens) for batch in batches], ours_from_nothing, arguments.dtype)


def report(name: str, ways: dict[str, Callable[[], Any]], rounds: int) -> None:
    seconds = compare(ways, rounds=rounds)
    for way in list(ways)[1:]:
        middle, low, high = ratio(seconds, "transformers", way)
        ours, other = (sorted(seconds[each])[rounds // 2] for each in (way, "transformers"))
        print(f"{name}: {way} {ours:.3f} s, transformers {other:.3f} s: {middle:.1f}x ({low:.1f}..{high:.1f})")


def check(
    eyes: Onlooker, questions: list[str], expected: list[list[int]], ours: Callable[[bool], list[Any]], dtype: str
) -> None:
    """Hold our words against those of transformers; a speed-up with other tokens is none."""
    words = [eyes.processor.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in expected]
    found = {way: [answer.text for answer in ours(way == "list")] for way in ("one by one", "list")}
    fresh = Onlooker(eyes.model, eyes.processor, cache=Cache(0))
    count = len(expected[0])
    seen = fresh.encode(onlooker.load_video(CLIP, num_frames=8))
    found["from nothing"] = [
        fresh.ask(seen, text, min_new_tokens=count, max_new_tokens=count).text for text in questions
    ]
    for way, texts in found.items():
        same = sum(one == other for one, other in zip(texts, words))
        print(f"answers {way}: {same} of {len(words)} are those of transformers")
        if dtype == "float32" and same < len(words):
            raise SystemExit("other tokens than transformers'")


if __name__ == "__main__":
    main()
