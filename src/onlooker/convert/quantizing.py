"""Writes a checkpoint with linears of 8 or 4 bits as a complete folder, weight after weight."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onlooker.convert.published import read_published
from onlooker.convert.writing import Progress, beside, build, check, check_target, move, write
from onlooker.hub import local_folder, split_hub_options
from onlooker.quant.report import weight_report
from onlooker.quant.weights import KINDS, WeightQuantization
from onlooker.weights.saving import parse_size


@dataclass(frozen=True)
class Quantized:
    """What was written."""

    folder: Path
    linears: int  # with fewer bits
    bytes: int  # of all weights
    bytes_before: int  # of all weights of the source
    tensors: int  # read back and found equal


def quantize(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    quantization: str | Mapping[str, Any] | WeightQuantization,
    *,
    max_shard_size: int | str = "5GB",
    force: bool = False,
    progress: Progress | None = None,
    **hub: Any,
) -> Quantized:
    """Write a folder that loads with rounded weights, without the originals; what is not rounded stays as stored.

    It is written beside `out`, read back, compared tensor by tensor, and moved there when all is well.

    Args:
        source: a folder or hub name of one of the three families.
        quantization: "int8" or "int4" for the language model, or part -> kind (see `WeightQuantization`).
        max_shard_size: bytes of a weight file at most, or a text such as "5GB".
        force: write into a folder that is not empty; its weight files and files of the same names go.
        progress: called with ("reading" | "writing" | "checking", bytes done, bytes in total).
        **hub: revision, cache_dir, local_files_only, token, force_download.

    Raises:
        ModelNotFoundError: no such source.
        CheckpointError: a source that is damaged, of another kind, or lacks something.
        FileExistsError: `out` is not empty, without `force`.
        ValueError: nothing to quantise, or quantised already.
    """
    options, unknown = split_hub_options(hub)
    if unknown:
        raise TypeError(f"quantize has no option {', '.join(map(repr, unknown))}")
    weights = WeightQuantization.of(quantization)
    if weights is None:
        raise ValueError("quantize: name at least one part, such as quantization='int4'")
    parse_size(max_shard_size)
    target = Path(out)
    source = local_folder(source) or source
    check_target(target, source, force=force)
    tell = progress or (lambda stage, done, total: None)
    with beside(target) as folder:
        draft = read_published(source, options)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="T5 was trained in bfloat16")  # it is written, not run
            model = build(draft, os.fspath(source), None, tell, weights)
            size = write(model, draft, folder, max_shard_size, os.fspath(source), tell)
            count = check(model, draft, folder, tell)
        move(folder, target)
    linears = sum(each.dtype in KINDS for each in weight_report(model))
    return Quantized(target, linears, size, sum(stored.nbytes for stored in draft.stored.values()), count)
