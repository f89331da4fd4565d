"""Builds a tokenizer from a sentencepiece model file (spiece.model, tokenizer.model), without that package.

The file is one protobuf message.  Only its pieces, the kind of model and the text normalisation are needed, so the
few wire rules are read here: https://protobuf.dev/programming-guides/encoding and sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from onlooker.errors import CheckpointError
from onlooker.text.families import LLAMA, Family

UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType
CONTROL, USER_DEFINED = 3, 4  # SentencePiece.Type
SPACE = "▁"


@dataclass
class Spiece:
    """What is needed of a sentencepiece model."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)  # text, score, type
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    unk_id: int = 0
    charsmap: bytes = b""  # compiled text normalisation
    single_spaces: bool = True  # spaces are trimmed, and runs of them taken as one


def read_spiece(path: Path) -> Spiece:
    """Read a sentencepiece model.

    Raises:
        CheckpointError: the file is not one, or is cut short.
    """
    spiece = Spiece()
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                piece = dict(_fields(value))
                score = struct.unpack("<f", piece.get(2, bytes(4)))[0]
                spiece.pieces.append((piece[1].decode("utf-8"), score, piece.get(3, 1)))
            elif number == 2:
                trainer = dict(_fields(value))
                spiece.model_type = trainer.get(3, UNIGRAM)
                spiece.byte_fallback = bool(trainer.get(35, 0))
                spiece.unk_id = trainer.get(40, 0)
            elif number == 3:
                normalizer = dict(_fields(value))
                spiece.charsmap = normalizer.get(2, b"")
                spiece.single_spaces = bool(normalizer.get(4, 1))
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError, struct.error) as error:
        raise CheckpointError(f"{path} is not a sentencepiece model, or it is cut short. Download it again.") from error
    if not spiece.pieces or spiece.model_type not in (UNIGRAM, BPE):
        raise CheckpointError(f"{path} is not a sentencepiece model of kind unigram or BPE, the two that are read.")
    return spiece


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Field number and raw value of every field of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        value: Any
        if kind == 0:
            value, at = _varint(message, at)
        else:
            if kind == 2:
                size, at = _varint(message, at)
            else:
                size = {1: 8, 5: 4}[kind]
            if at + size > len(message):
                raise IndexError("cut short")
            value, at = message[at : at + size], at + size
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def from_spiece(path: Path, family: Family, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Build the pipeline of a sentencepiece vocabulary: LLaMA's keeps spaces as they are, others T5's way."""
    spiece = read_spiece(path)
    is_llama = family is LLAMA
    extra = [] if is_llama else [f"<extra_id_{i}>" for i in reversed(range(settings.get("extra_ids", 0)))]
    backend = tokenizers.Tokenizer(_model(spiece, extra))
    known = [
        AddedToken(text, normalized=False, special=kind == CONTROL)
        for text, _, kind in spiece.pieces
        if kind in (CONTROL, USER_DEFINED)
    ]
    backend.add_tokens(known)
    backend.add_tokens([AddedToken(text, normalized=False, special=True, lstrip=True, rstrip=True) for text in extra])
    prefix = settings.get("add_prefix_space") is not False
    legacy = settings.get("legacy") is not False
    if is_llama:
        _llama_pipeline(backend, prefix, legacy)
    else:
        _t5_pipeline(backend, spiece, prefix, legacy)
    return backend


def _model(spiece: Spiece, extra: list[str]) -> Any:
    if spiece.model_type == UNIGRAM:
        scored = [(text, score) for text, score, _ in spiece.pieces] + [(text, 0.0) for text in extra]
        return models.Unigram(scored, unk_id=spiece.unk_id, byte_fallback=spiece.byte_fallback)
    vocabulary = {text: number for number, text in enumerate([text for text, _, _ in spiece.pieces] + extra)}
    return models.BPE(
        vocabulary,
        _merges(spiece),
        unk_token=spiece.pieces[spiece.unk_id][0],
        fuse_unk=True,
        byte_fallback=spiece.byte_fallback,
    )


def _merges(spiece: Spiece) -> list[tuple[str, str]]:
    """The pairs a BPE model joins, best first: it stores only the results, scored by when they were learned."""
    known = {text for text, _, _ in spiece.pieces}
    pairs: list[tuple[float, int, str, str]] = []
    for text, score, _ in spiece.pieces:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in known and right in known:
                pairs.append((-score, -cut, left, right))
    pairs.sort(key=lambda pair: pair[:2])
    return [(left, right) for _, _, left, right in pairs]


def _t5_pipeline(backend: tokenizers.Tokenizer, spiece: Spiece, prefix: bool, legacy: bool) -> None:
    steps: list[Any] = [normalizers.Precompiled(spiece.charsmap)] if spiece.charsmap else []
    if spiece.single_spaces:
        steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), SPACE)]
    backend.normalizer = normalizers.Sequence(steps)
    scheme = ("always" if legacy else "first") if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    end = backend.token_to_id("</s>")
    if end is not None:
        backend.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
        )


def _llama_pipeline(backend: tokenizers.Tokenizer, prefix: bool, legacy: bool) -> None:
    if legacy:
        steps: list[Any] = [normalizers.Prepend(SPACE)] if prefix else []
        backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    else:
        # Since then only the very first word gets the space in front, not the text after each special token.
        scheme = "first" if prefix else "never"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False)
    ending: list[Any] = [decoders.Strip(content=" ", left=1)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *ending]
    )
