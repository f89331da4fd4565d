"""Further questions about a clip: what `Onlooker` keeps of it, against beginning anew."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from onlooker.auto_processing import AutoTokenizer
from onlooker.bench.contest import Contest, Side
from onlooker.bench.peer import both, num_bytes
from onlooker.bench.settings import FIRST_WORD, Settings
from onlooker.bench.workloads.preprocess import frames
from onlooker.bench.workloads.video_llava import ROUNDED, video_llava
from onlooker.bench.writing import Dictation, answering, one_by_one
from onlooker.models.video_llava.generation import VideoLlavaForConditionalGeneration
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pipeline import Onlooker
from onlooker.pixels.video_llava import VideoLlavaImageProcessor

TOKENS = 16
QUESTIONS = [
    *("What is in the picture?", "Is it raining?", "How many cats are there?", "Why is this video funny?"),
    *("What is on the table?", "Is it sunny and warm?", "Who is sitting on a chair?", "What is the answer?"),
    *("Is there a cup of coffee?", "How many wooden chairs are there?"),
]
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>"]


def contests(settings: Settings) -> Iterator[Contest]:
    wanted = {"int8": ROUNDED} if "ten-questions-int8" in settings.rows else {}
    config = video_llava(settings, _SPECIAL.index("<image>"), _SPECIAL.index("<video>"))
    with both(VideoLlavaForConditionalGeneration, config, torch.bfloat16, wanted) as peers:
        processor = _processor(peers.folder, settings)
        clip = frames(settings)
        batches = [_batch(processor, clip, text) for text in QUESTIONS]
        told = settings.told("LLaMA", "CLIP")
        if "next-question" in settings.rows:
            theirs = answering(peers.theirs, batches[-1], 1, exact=peers.exact)
            pair = _next(Onlooker(peers.ours[""], processor), clip), theirs
            shape = f"{batches[-1]['input_ids'].shape[1]} positions, {told}"
            yield Contest(shape, {"next-question": pair}, torch.bfloat16)
        rows = {}
        theirs = one_by_one([answering(peers.theirs, batch, TOKENS, exact=peers.exact) for batch in batches])
        for name, model in peers.ours.items():
            if f"ten-questions-{name or 'bf16'}" in settings.rows:
                eyes = Onlooker(model, processor)
                side = Side(partial(_ask_all, eyes, clip), weights=num_bytes(model))
                side.scores = partial(_scores_of_all, eyes, clip)
                rows[f"ten-questions-{name or 'bf16'}"] = side, theirs
        if rows:
            shape = f"10 prompts of {batches[0]['input_ids'].shape[1]} positions, {TOKENS} tokens each, {told}"
            yield Contest(shape, rows, torch.bfloat16)


def _next(eyes: Onlooker, clip: Any) -> Side:
    """The first token of a question that was never asked, about a clip that was asked about."""
    seen = eyes.encode(clip)
    eyes.ask(seen, QUESTIONS[0], max_new_tokens=1)

    def write(**options: Any) -> list[list[int]]:
        return _ids(eyes, [eyes.ask(seen, QUESTIONS[-1], max_new_tokens=1, **options)])

    def scores(row: int, ids: list[int]) -> Tensor:
        told = Dictation(ids)
        write(logits_processor=[told])
        return told.scores

    return Side(write, scores=scores, weights=num_bytes(eyes.model))


def _ask_all(eyes: Onlooker, clip: Any, **options: Any) -> list[list[int]]:
    """From nothing: what was kept of the clip is given up first."""
    eyes.cache.clear()
    return _ids(eyes, eyes.ask(clip, QUESTIONS, max_new_tokens=TOKENS, **options))


def _scores_of_all(eyes: Onlooker, clip: Any, row: int, ids: list[int]) -> Tensor:
    """[len(ids), V] of one question, asked with the others: batch after batch, of so many steps each."""
    batch, place = divmod(row, eyes.batch_size)
    told, steps = Dictation(ids, place), itertools.count()

    def listen(written: Tensor, scores: Tensor) -> Tensor:
        return told(written, scores) if next(steps) // TOKENS == batch else scores

    _ask_all(eyes, clip, logits_processor=[listen])
    return told.scores


def _ids(eyes: Onlooker, answers: list[Any]) -> list[list[int]]:
    tokenizer = eyes.processor.tokenizer
    return [tokenizer.convert_tokens_to_ids(answer.text.split()) for answer in answers]


def _batch(processor: VideoLlavaProcessor, clip: Any, question: str) -> dict[str, Any]:
    batch = processor(text=f"USER: <video>\n{question} ASSISTANT:", videos=[clip], return_tensors="pt")
    batch = batch.to(torch.bfloat16)
    return {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values_videos")}


def _processor(folder: Path, settings: Settings) -> VideoLlavaProcessor:
    """Pixels as published; a vocabulary whose words are read back to their ids, whatever a random model writes."""
    known = dict.fromkeys(" ".join(["USER : ASSISTANT ?", *QUESTIONS]).replace("?", " ").split())
    names = [*_SPECIAL, *(f"unused{number}" for number in range(FIRST_WORD - len(_SPECIAL))), *known, "?"]
    words = names + [f"w{number}" for number in range(settings.words(32000) - len(names))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    target = folder / "words"
    target.mkdir()
    backend.save(str(target / "tokenizer.json"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    values = {"tokenizer_class": "PreTrainedTokenizerFast", **roles, "clean_up_tokenization_spaces": False}
    (target / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    side = settings.image_size
    pixels = VideoLlavaImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return VideoLlavaProcessor(pixels, None, tokenizer, patch_size=14)
