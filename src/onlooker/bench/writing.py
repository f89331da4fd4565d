"""Sides of a contest that write answers with `generate`, which both libraries spell alike."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from onlooker.bench.contest import Side
from onlooker.bench.peer import num_bytes
from onlooker.native import products


def answering(
    model: Any,
    batch: Mapping[str, Any],
    count: int,
    *,
    decode_only: bool = False,
    is_native: bool = True,
    **options: Any,
) -> Side:
    """Write `count` tokens greedily.

    Args:
        batch: what `generate` takes.
        decode_only: leave out what the first token takes, prompt and all.
        is_native: False does without the compiled products.
    """
    options |= {"do_sample": False}
    if decode_only:
        count += 1
    side = Side(partial(_write, model, batch, count, is_native, options), weights=num_bytes(model))
    side.scores = partial(_scores, model, batch, is_native, options)
    if decode_only:
        side.before = partial(_write, model, batch, 1, is_native, options)
    return side


def _write(model: Any, batch: Mapping[str, Any], count: int, is_native: bool, options: Any) -> list[list[int]]:
    """Ids of the new tokens of every row."""
    with _kernels(is_native), torch.inference_mode():
        ids = model.generate(**batch, max_new_tokens=count, **options)
    return ids[:, -count:].tolist()


def _scores(model: Any, batch: Mapping[str, Any], is_native: bool, options: Any, row: int, count: int) -> Tensor:
    """[count, V] before each of a row's first new tokens."""
    options = {**options, "output_logits": True, "return_dict_in_generate": True}
    with _kernels(is_native), torch.inference_mode():
        steps = model.generate(**batch, max_new_tokens=count, **options).logits
    return torch.stack([step[row] for step in steps])


def _kernels(is_native: bool) -> AbstractContextManager[Any]:
    return nullcontext() if is_native else products.disabled()


def bytes_of_a_step(model: Any) -> int:
    """Bytes of weights that a token reads: all but the table of words, unless that is the head, too."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    is_tied = head is not None and head.weight is table
    return num_bytes(model) - (0 if is_tied else table.numel() * table.element_size())
