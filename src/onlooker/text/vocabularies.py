"""Builds a tokenizer from the older vocabulary files: vocab.json with merges.txt, and vocab.txt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from onlooker.errors import CheckpointError


def from_bpe(vocab: Path, merges: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Byte-level BPE as GPT-2 and OPT have it; OPT's `add_bos_token` writes the start token in front.

    Raises:
        CheckpointError: the files do not belong together.
    """
    vocabulary: dict[str, int] = json.loads(vocab.read_text(encoding="utf-8"))
    lines = merges.read_text(encoding="utf-8").split("\n")
    lines = lines[1:] if lines[0].startswith("#version") else lines
    pairs = [tuple(line.split(" ")) for line in lines if line]
    bad = next((pair for pair in pairs if len(pair) != 2 or "".join(pair) not in vocabulary), None)
    if bad is not None:
        raise CheckpointError(f"{merges} joins {' + '.join(bad)!r}, which {vocab} does not have. Download both again.")
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, continuing_subword_prefix="", end_of_word_suffix=""))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    if settings.get("add_bos_token"):
        start = str(settings["bos_token"])
        backend.add_special_tokens([start])
        backend.post_processor = processors.TemplateProcessing(
            single=f"{start}:0 $A:0",
            pair=f"{start}:0 $A:0 {start}:0 $B:1",
            special_tokens=[(start, backend.token_to_id(start))],
        )
    return backend


def from_word_pieces(vocab: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Word pieces as BERT has them: lower-cased unless `do_lower_case` says no, between [CLS] and [SEP]."""
    words = vocab.read_text(encoding="utf-8").split("\n")
    words = words[:-1] if words and not words[-1] else words
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=str(settings["unk_token"])))
    backend.normalizer = normalizers.BertNormalizer()  # the settings act on it later
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    start, end = str(settings["cls_token"]), str(settings["sep_token"])
    missing = [token for token in (start, end) if token not in vocabulary]
    if missing:
        raise CheckpointError(f"{vocab} has no {' and no '.join(missing)}. Give the file that belongs to the model.")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(token, vocabulary[token]) for token in (start, end)],
    )
    return backend
