"""What is measured, and the bar of each row; nothing heavy is imported, so that a list of it is immediate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        bar: transformers / onlooker, at least.
        is_lossless: the results must be those of transformers; otherwise the agreement is told.
    """

    name: str
    what: str
    bar: float
    is_lossless: bool = True


@dataclass(frozen=True)
class Workload:
    """Rows that are measured together.

    Attributes:
        name: the module of `workloads` that has it.
        depth: layers of the language model (of 32) where nothing else is asked for; see `shapes`.
    """

    name: str
    rows: tuple[Row, ...]
    depth: int = 4


WORKLOADS = (
    Workload(
        "starting",
        (
            Row("import", "import the package and its first class, in a new process", 3),
            Row("load", "start of a process to a loaded BLIP-2, bfloat16 as stored", 3),
        ),
    ),
    Workload("preprocess", (Row("preprocess", "8 frames of 1080p to pixel values", 8),)),
    Workload(
        "parts",
        (
            Row("qformer-bf16", "Q-Former, 4 frames and an instruction, bfloat16", 1.7),
            Row("qformer-int8", "the same, int8", 2.3, is_lossless=False),
            Row("qformer-bf16-frozen", "bfloat16, weights of transformers that take no gradients", 1.7),
            Row("qformer-int8-frozen", "the same, int8", 2.3, is_lossless=False),
            Row("vit-g-bf16", "ViT-g, one picture, bfloat16", 1),
            Row("vit-g-fp32", "ViT-g, one picture, float32", 1),
            Row("prefill-bf16", "LLaMA-7B's widths, a prompt of 256, bfloat16", 1),
            Row("prefill-fp32", "the same, float32", 1),
        ),
    ),
    Workload(
        "decode",
        (
            Row("decode-bf16", "LLaMA-7B's widths, decode, bfloat16, without a compiler", 1.5),
            Row("decode-int8", "the same, int8, without a compiler", 2.2, is_lossless=False),
            Row("decode-int4", "the same, int4, without a compiler", 3, is_lossless=False),
            Row("decode-bf16-native", "decode, bfloat16, native kernel", 1.7),
            Row("decode-int8-native", "the same, int8, native kernel", 3.5, is_lossless=False),
            Row("decode-int4-native", "the same, int4, native kernel", 5, is_lossless=False),
        ),
    ),
    Workload("beams", (Row("beams-first-token", "BLIP-2 OPT, caption with 5 beams: first token of the OPT", 5),)),
    Workload(
        "instructblip",
        (
            Row("instructblip-bf16", "InstructBLIPVideo, 4 frames, 160 + 32 tokens, bfloat16", 1.4),
            Row("instructblip-int8", "the same, int8", 2.3, is_lossless=False),
            Row("instructblip-int4", "the same, int4 (vision and Q-Former int8)", 2.8, is_lossless=False),
        ),
    ),
    Workload(
        "video_llava",
        (
            Row("video-llava-bf16", "Video-LLaVA, 8 frames, 32 tokens, bfloat16", 1.15),
            Row("video-llava-int8", "the same, int8", 1.5, is_lossless=False),
        ),
        depth=2,
    ),
    Workload(
        "questions",
        (
            Row("next-question", "the next question about the same Video-LLaVA clip: first token", 50),
            Row("ten-questions-bf16", "10 questions about one Video-LLaVA clip, 16 tokens each, bfloat16", 3),
            Row("ten-questions-int8", "the same, int8", 6, is_lossless=False),
        ),
        depth=2,
    ),
    Workload(
        "requests",
        (
            Row("requests-padded", "8 requests of mixed length, decode, against one padded batch", 1.7),
            Row("requests-one-by-one", "8 requests of mixed length, decode, against one by one", 6),
        ),
        depth=2,
    ),
    Workload(
        "tiny",
        (
            Row("tiny-opt", "decode of a tiny OPT (dispatch-bound), float32", 2),
            Row("tiny-t5", "decode of a tiny T5, float32", 2),
            Row("tiny-llama", "decode of a tiny LLaMA, float32", 2),
        ),
    ),
)

ROWS: dict[str, Row] = {row.name: row for workload in WORKLOADS for row in workload.rows}


def chosen(names: Collection[str]) -> dict[Workload, frozenset[str]]:
    """Workload -> the rows of it that are asked for, by their own names or the workload's; all where none is named.

    Raises:
        ValueError: a name that is not there.
    """
    unknown = [name for name in names if name not in ROWS and all(name != each.name for each in WORKLOADS)]
    if unknown:
        raise ValueError(f"there is no row or workload {unknown[0]!r}; --list shows them")
    found = {}
    for workload in WORKLOADS:
        rows = frozenset(row.name for row in workload.rows if not names or row.name in names or workload.name in names)
        if rows:
            found[workload] = rows
    return found
