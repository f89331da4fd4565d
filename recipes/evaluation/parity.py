"""The checkpoints in transformers: everything loads, and the same inputs give the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import onlooker
from onlooker.train.world import KINDS, caption, draw_scene, render
from recipes.evaluation.counting import Share
from recipes.evaluation.exam import FRAMES, SIZE, draw_exam
from recipes.evaluation.stills import different_stills

_TOLERANCE = 1e-4  # of similarities and probabilities: sums in another order differ by some 1e-6


def same_as_transformers(folder: Path, n: int = 32) -> dict[str, Any]:
    """Load a folder in both in float32, and compare what both make of n inputs.

    The reference reads the same ids and pixels, one row at a time.

    Raises:
        ValueError: transformers finds weights missing, left over or of another shape.
    """
    import transformers

    config = onlooker.AutoConfig.from_pretrained(folder)
    name = (config.architectures or [""])[0]
    ours = getattr(onlooker, name).from_pretrained(folder, torch_dtype=torch.float32).eval()
    theirs, report = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    odd = {key: sorted(map(str, names)) for key, names in report.items() if names}
    if odd:
        raise ValueError(f"{folder.name} in transformers {transformers.__version__}: {odd}")
    processor: Any = onlooker.AutoProcessor.from_pretrained(folder)
    readers = [(processor.tokenizer, transformers.AutoTokenizer.from_pretrained(folder))]
    if (folder / "qformer_tokenizer").is_dir():
        second = transformers.AutoTokenizer.from_pretrained(folder / "qformer_tokenizer")
        readers.append((processor.qformer_tokenizer, second))
    found: dict[str, Any] = {"transformers": transformers.__version__, "token ids of texts": _texts(readers, n)}
    if hasattr(ours, "itm_head"):
        return found | _scores(ours, theirs.eval(), processor, n)
    inputs = list(_inputs(config.model_type, processor, n))
    for way, options in {"greedy": {}, "beams": {"num_beams": 5}}.items():
        found[way] = Share.of(_same(ours, theirs.eval(), each, options) for each in inputs)
    return found


def _texts(readers: Sequence[tuple[Any, Any]], n: int) -> Share:
    """Texts of which both tokenizers make the same ids."""
    texts = [task.question.text for task in draw_exam("test", "train", -(-n // len(KINDS)))]
    texts += [caption(draw_scene(seed, "test")) for seed in range(n)]
    return Share.of(ours(text)["input_ids"] == theirs(text)["input_ids"] for ours, theirs in readers for text in texts)


def _inputs(kind: str, processor: Any, n: int) -> Iterator[dict[str, Any]]:
    """Inputs of generate(): captions with an empty prompt, or questions as a family writes them."""
    if kind == "blip-2":
        for seed in range(n):
            picture = render(draw_scene(seed, "test", is_still=True), SIZE)[0]
            yield dict(processor(images=picture, text="", return_tensors="pt"))
        return
    for task in draw_exam("test", "train", -(-n // len(KINDS)))[:n]:
        clip = render(task.scene, SIZE, FRAMES)
        content = [{"type": "video"}, {"type": "text", "text": task.question.text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        media = {"images": [list(clip)]} if kind == "instructblipvideo" else {"videos": [clip]}
        yield dict(processor(text=prompt, return_tensors="pt", **media))


@torch.no_grad()
def _same(ours: Any, theirs: Any, inputs: dict[str, Any], options: dict[str, Any]) -> bool:
    """Whether both write the same new tokens."""
    settings = {"max_new_tokens": 24, "do_sample": False, **options}
    got, wanted = ours.generate(**inputs, **settings), theirs.generate(**inputs, **settings)
    return got.shape == wanted.shape and bool((got == wanted).all())


@torch.no_grad()
def _scores(ours: Any, theirs: Any, processor: Any, n: int) -> dict[str, Any]:
    """Pairs whose similarity, and whose probability of a match, are the same."""
    scenes = different_stills(n)
    pictures = [render(scene, SIZE)[0] for scene in scenes]
    texts = [caption(scene) for scene in scenes]
    both = processor(images=pictures, text=texts, padding=True, return_tensors="pt")  # placeholders for the pictures
    found = {}
    for way, uses_head in {"ITC": False, "ITM": True}.items():
        inputs = {**both, "use_image_text_matching_head": uses_head}
        got, wanted = (model(**inputs, return_dict=True).logits_per_image for model in (ours, theirs))
        if uses_head:
            got, wanted = got.softmax(-1), wanted.softmax(-1)
        found[way] = Share.of(((got - wanted).abs() < _TOLERANCE).flatten().tolist())
    return found
