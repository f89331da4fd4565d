"""Brings the tensors of a checkpoint together with those a model wants, and says what does not fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onlooker.errors import CheckpointError
from onlooker.weights.naming import RenameTable, substitute
from onlooker.weights.reading import StoredTensor

#: The parts that composite checkpoints are made of, and which kind of checkpoint has them.
PARTS = {
    "query_tokens": "any BLIP-2 or InstructBLIP checkpoint",
    "vision_model": "any BLIP-2 or InstructBLIP checkpoint",
    "qformer": "any BLIP-2 or InstructBLIP checkpoint",
    "language_projection": "checkpoints that generate text, such as Salesforce/blip2-opt-2.7b",
    "language_model": "checkpoints that generate text, such as Salesforce/blip2-opt-2.7b",
    "embeddings": "retrieval checkpoints, such as Salesforce/blip2-itm-vit-g",
    "vision_projection": "retrieval checkpoints, such as Salesforce/blip2-itm-vit-g",
    "text_projection": "retrieval checkpoints, such as Salesforce/blip2-itm-vit-g",
    "itm_head": "retrieval checkpoints, such as Salesforce/blip2-itm-vit-g",
    "image_tower": "Video-LLaVA checkpoints",
    "video_tower": "Video-LLaVA checkpoints",
    "multi_modal_projector": "Video-LLaVA checkpoints",
    "lm_head": "checkpoints with a language model head",
}
# Tables that older versions stored and that are computed now; T5 declared a bias table that no decoder used.
_NEVER_NEEDED = (
    "position_ids",
    "rotary_emb.inv_freq",
    "EncDecAttention.relative_attention_bias.weight",
    "attn.masked_bias",
)
_TENSORFLOW = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these in front
_SHOWN = 12


@dataclass
class Match:
    """Which stored tensor fills which parameter, and what is left on either side."""

    sources: dict[str, StoredTensor] = field(default_factory=dict)  # by the model's name
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)  # by the file's name
    duplicates: dict[str, StoredTensor] = field(default_factory=dict)  # second copies of tied parameters
    part: str = ""  # prefix that the model has in composite checkpoints, when it is a part


def match(
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, StoredTensor],
    *,
    tied: Mapping[str, str],
    prefixes: Sequence[str] = (),
    rename: Iterable[tuple[str, str]] = (),
    disk_names: RenameTable | None = None,
    where: str = "the checkpoint",
) -> Match:
    """Find for each name of the model the tensor of the checkpoint that it is filled from.

    Args:
        shapes: name -> shape of everything that the model wants.
        stored: what the checkpoint has, by its own names.
        tied: duplicate -> name of the parameter that it shares.
        prefixes: where in a composite checkpoint the model may live as a part, such as ("vision_model.",).
        rename: one-way rules from other spellings to the model's.
        disk_names: the published names when they differ from the model's.

    Raises:
        CheckpointError: shapes differ; the message names the tensors.
    """
    names = {name: _memory_name(name, list(rename), disk_names, shapes) for name in stored}
    prefix = _best_prefix(shapes, names.values(), ("", *prefixes))
    result = Match(part=prefixes[0] if prefixes else "")
    roots = {name.split(".")[0] for name in shapes}
    for file_name, name in names.items():
        if name is None or file_name.endswith(_NEVER_NEEDED):
            continue
        inner = name.removeprefix(prefix) if name.startswith(prefix) else None
        if inner is not None and inner in shapes:
            (result.duplicates if inner in tied else result.sources)[inner] = stored[file_name]
        elif inner is None or inner.split(".")[0] not in roots:
            if name.split(".")[0] not in PARTS:
                result.unexpected.append(file_name)
        else:
            result.unexpected.append(file_name)
    for duplicate, kept in tied.items():
        if kept not in result.sources and duplicate in result.duplicates:
            result.sources[kept] = result.duplicates.pop(duplicate)
    result.missing = [name for name in shapes if name not in result.sources and name not in tied]
    _check_shapes(shapes, result, where)
    return result


def _memory_name(
    name: str, rename: list[tuple[str, str]], disk_names: RenameTable | None, shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    if name in shapes:
        return name
    renamed: str | None = substitute(rename, name)
    if disk_names is not None and renamed is not None:
        renamed = disk_names.to_memory(renamed)
    if renamed is not None and renamed not in shapes:
        renamed = substitute(_TENSORFLOW, renamed)
    return renamed


def _best_prefix(shapes: Mapping[str, tuple[int, ...]], names: Iterable[str | None], prefixes: Sequence[str]) -> str:
    """The prefix under which most names of the model occur; the first one on a tie."""
    present = set(names)
    hits = [sum(prefix + name in present for name in shapes) for prefix in prefixes]
    return prefixes[hits.index(max(hits))]


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], result: Match, where: str) -> None:
    wrong = [name for name, source in result.sources.items() if tuple(source.shape) != tuple(shapes[name])]
    if wrong:
        lines = [
            f"{name}: {result.sources[name].shape} in the file, {tuple(shapes[name])} by the config" for name in wrong
        ]
        raise CheckpointError(
            f"{len(wrong)} tensors of {where} have another shape than the config says: {_list(lines, '; ')}. "
            "Load with the config.json that belongs to these weights, and without overrides of sizes."
        )


def check_complete(result: Match, class_name: str, where: str, *, allow_missing: bool, strict: bool) -> None:
    """Refuse missing and left-over tensors, or warn about them where that was allowed.

    Raises:
        CheckpointError: tensors are missing and not allow_missing, or left over and strict.
    """
    if result.missing:
        text = f"{where} lacks {len(result.missing)} tensors of {class_name}: {_list(result.missing)}."
        kinds = _kinds([result.part + name for name in result.missing])
        if kinds:
            text += f" {kinds}"
        if not allow_missing:
            raise CheckpointError(f"{text} Load another checkpoint, or pass allow_missing=True to initialise them.")
        warnings.warn(f"{text} They are initialised at random: train them before use.", stacklevel=4)
    if result.unexpected:
        count = len(result.unexpected)
        text = f"{where} holds {count} tensors that {class_name} does not use: {_list(result.unexpected)}."
        if strict:
            raise CheckpointError(f"{text} Leave out strict=True to ignore them.")
        warnings.warn(f"{text} They are ignored.", stacklevel=4)


def _kinds(missing: list[str]) -> str:
    found: dict[str, list[str]] = {}
    for part in dict.fromkeys(name.split(".")[0] for name in missing):
        if part in PARTS:
            found.setdefault(PARTS[part], []).append(part)
    return " ".join(f"{', '.join(parts)}: found in {kind}." for kind, parts in found.items())


def _list(names: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}... and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
