"""Turns checkpoints of other layouts and of older times into complete folders of the published layout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onlooker.config import read_config
from onlooker.convert.draft import Computed, Draft, computed
from onlooker.convert.lavis import read_lavis
from onlooker.convert.published import read_published
from onlooker.convert.video_llava import read_original
from onlooker.convert.writing import Progress, beside, build, check, check_target, move, write
from onlooker.hub import local_folder, split_hub_options
from onlooker.models.video_llava.original import ORIGINAL
from onlooker.weights.policy import parse_dtype
from onlooker.weights.saving import parse_size

__all__ = ["Converted", "convert"]

_OF_LAVIS = ("vit", "language_model", "qformer_tokenizer", "image_size")
_OF_VIDEO_LLAVA = ("form", "image_tower", "video_tower")


@dataclass(frozen=True)
class Converted:
    """What was written."""

    folder: Path
    kind: str  # what the source was
    model_class: str
    tensors: int  # read back and found equal
    bytes: int
    token_rows: int
    placeholders: dict[str, int | None]
    dropped: list[str]  # tensors of the source without a place in the model


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dtype: Any = None,
    max_shard_size: int | str = "5GB",
    vit: str | os.PathLike[str] | None = None,
    language_model: str | os.PathLike[str] | None = None,
    qformer_tokenizer: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    form: str | None = None,
    image_tower: str | os.PathLike[str] | None = None,
    video_tower: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **hub: Any,
) -> Converted:
    """Write a complete current folder: config.json, safetensors, tokenizer and processor files.

    It is written beside `out`, read back, compared tensor by tensor, and moved there when all is well.

    Args:
        source: a LAVIS .pth file; or a folder or hub name of the original Video-LLaVA, or of BLIP-2, InstructBLIP or
            Video-LLaVA in the published layout (.bin files, folders without placeholders and processor attributes).
        dtype: to write in, such as "bfloat16"; None keeps what is stored, and is float32 for LAVIS.
        max_shard_size: bytes of a weight file at most, or a text such as "5GB".
        vit, language_model, qformer_tokenizer, image_size: see `read_lavis`.
        form: "paper" (default) or "hf", image_tower, video_tower: see `read_original`.
        force: write into a folder that is not empty; its weight files and files of the same names go.
        progress: called with ("reading" | "writing" | "checking", bytes done, bytes in total).
        **hub: revision, cache_dir, local_files_only, token, force_download.

    Raises:
        ModelNotFoundError: no such source, or one of its parts.
        CheckpointError: a source that is damaged, of another kind, or lacks something.
        FileExistsError: `out` is not empty, without `force`.
        ValueError: an option that this source does not take.
    """
    options, unknown = split_hub_options(hub)
    if unknown:
        raise TypeError(f"convert has no option {', '.join(map(repr, unknown))}")
    parse_size(max_shard_size)
    chosen = None if dtype is None else str(parse_dtype(dtype)).removeprefix("torch.")
    target = Path(out)
    source = local_folder(source) or source  # what comes with the package is a folder like any other
    check_target(target, source, force=force)
    given = {
        "vit": vit,
        "language_model": language_model,
        "qformer_tokenizer": qformer_tokenizer,
        "image_size": image_size,
        "form": form,
        "image_tower": image_tower,
        "video_tower": video_tower,
    }
    tell = progress or _silent
    with computed() as scratch, beside(target) as folder:
        draft = _read(source, {name: value for name, value in given.items() if value is not None}, scratch, options)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="T5 was trained in bfloat16")  # it is written, not run
            model = build(draft, os.fspath(source), chosen or draft.dtype, tell)
            size = write(model, draft, folder, max_shard_size, os.fspath(source), tell)
            count = check(model, draft, folder, tell)
        move(folder, target)
    config = model.config
    ids = {name: getattr(config, name) for name in ("image_token_index", "video_token_index") if hasattr(config, name)}
    rows = config.get_text_config().vocab_size
    return Converted(target, draft.kind, type(model).__name__, count, size, rows, ids, draft.dropped)


def _read(source: str | os.PathLike[str], given: dict[str, Any], scratch: Computed, hub: Mapping[str, Any]) -> Draft:
    if Path(source).is_file():
        _refuse(given, _OF_VIDEO_LLAVA, "a LAVIS file")
        return read_lavis(Path(source), scratch, hub, **given)
    if read_config(os.fspath(source), **hub).get("model_type") == ORIGINAL:
        _refuse(given, _OF_LAVIS, "the original Video-LLaVA")
        return read_original(source, hub, **given)
    _refuse(given, (*_OF_LAVIS, *_OF_VIDEO_LLAVA), "a folder in the published layout")
    return read_published(source, hub)


def _refuse(given: Mapping[str, Any], names: tuple[str, ...], what: str) -> None:
    wrong = [name for name in names if name in given]
    if wrong:
        raise ValueError(f"{what} takes no {', '.join(wrong)}: leave {'it' if len(wrong) == 1 else 'them'} out")


def _silent(stage: str, done: int, total: int) -> None:
    pass
