"""Puts a model together from parts of others: the first stage's Q-Former, a language model from its own folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onlooker.errors import CheckpointError
from onlooker.weights.reading import Reader, find_weights

#: where the words and the norm of the Q-Former stand: beside it in retrieval models, inside it in InstructBLIP
_SPELLINGS = (
    (r"^qformer\.embeddings\.(word|position)_embeddings\.", r"embeddings.\1_embeddings."),
    (r"^qformer\.embeddings\.layernorm\.", r"qformer.layernorm."),
    (r"^qformer\.layernorm\.", r"qformer.embeddings.layernorm."),
    (r"^embeddings\.(word|position)_embeddings\.", r"qformer.embeddings.\1_embeddings."),
    (r"^(?:model\.)?language_model\.", ""),
    (r"^(?:model\.)?(?:image|video)_tower\.", ""),
    (r"^(?:model\.)?(?:image|video)_tower\.vision_model\.", ""),
    (r"^vision_model\.", ""),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.language_model\.", "model."),
    (r"^(model\.)?video_tower\.", r"\1image_tower."),
    (r"^model\.", ""),
    (r"^lm_head\.", "language_model.lm_head."),
)


@torch.no_grad()
def take_part(model: nn.Module, part: str, source: str | Path | nn.Module, **hub: Any) -> list[str]:
    """Copy the parameters of `model` whose names begin with `part` from another model or checkpoint.

    Args:
        part: a prefix such as "qformer", "query_tokens", "vision_model", "language_model", "model.image_tower".
        source: a model, or a folder or hub name. Names may lack the part's prefix, as in a checkpoint of it alone.
        hub: revision, cache_dir and their like.

    Returns:
        The names that were filled.

    Raises:
        CheckpointError: the source lacks a tensor of the part, or has it in another shape.
        ValueError: the model has no such part.
    """
    wanted = {
        name: p for name, p in model.named_parameters() if name == part or name.startswith(part.rstrip(".") + ".")
    }
    if not wanted:
        raise ValueError(f"no parameter's name begins with {part!r}; the parts are {_parts(model)}")
    given = _Tensors(source, hub)
    for name, parameter in wanted.items():
        found = next((spelling for spelling in _spellings(name) if spelling in given.shapes), None)
        if found is None:
            raise CheckpointError(f"{given.title} has no {name}: it is no source for {part}")
        if given.shapes[found] != tuple(parameter.shape):
            raise CheckpointError(
                f"{found} of {given.title} is {given.shapes[found]} and {name} here is {tuple(parameter.shape)}"
            )
        parameter.copy_(given.read(found))
    return list(wanted)


def _spellings(name: str) -> list[str]:
    return [name, *(re.sub(pattern, to, name) for pattern, to in _SPELLINGS if re.match(pattern, name))]


def _parts(model: nn.Module) -> str:
    return ", ".join(dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters()))


class _Tensors:
    """Tensors by name, of a module or of a checkpoint."""

    def __init__(self, source: str | Path | nn.Module, hub: dict[str, Any]) -> None:
        if isinstance(source, nn.Module):
            state = source.state_dict()
            self.title, self.read = type(source).__name__, state.__getitem__
            self.shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
            return
        stored, reader = find_weights(source, **hub), Reader()
        self.title, self.read = str(source), lambda name: reader.view(stored[name])
        self.shapes = {name: tuple(each.shape) for name, each in stored.items()}
