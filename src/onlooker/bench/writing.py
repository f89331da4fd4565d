"""Sides of a contest that write answers with `generate`, which both libraries spell alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from onlooker.bench.contest import Side
from onlooker.bench.peer import num_bytes
from onlooker.native import library


def answering(
    model: Any,
    batch: Mapping[str, Any],
    count: int,
    *,
    decode_only: bool = False,
    is_native: bool = True,
    exact: Callable[[], Any] | None = None,
    **options: Any,
) -> Side:
    """Write `count` tokens greedily behind one prompt.

    Args:
        batch: what `generate` takes.
        decode_only: leave out what the first token takes, prompt and all.
        is_native: False does without the compiled products.
        exact: makes the model in float32, of the peer.
    """
    options |= {"do_sample": False}
    if decode_only:
        count += 1
    side = Side(partial(_write, model, batch, count, is_native, options), weights=num_bytes(model))
    side.scores = partial(_scores, lambda: model, batch, is_native)
    if exact is not None:
        side.exact = partial(_scores, exact, {name: _widened(value) for name, value in batch.items()}, is_native)
    if decode_only:
        side.before = partial(_write, model, batch, 1, is_native, options)
    return side


def one_by_one(sides: Sequence[Side]) -> Side:
    """What sides of one answer each write, one after the other; all have what the first has."""

    def all_of(which: str) -> list[list[int]]:
        return [getattr(side, which)()[0] for side in sides]

    def one_of(which: str, row: int, ids: list[int]) -> Tensor:
        scores: Tensor = getattr(sides[row], which)(0, ids)
        return scores

    first = sides[0]
    return Side(
        partial(all_of, "work"),
        before=None if first.before is None else partial(all_of, "before"),
        scores=None if first.scores is None else partial(one_of, "scores"),
        exact=None if first.exact is None else partial(one_of, "exact"),
        weights=first.weights,
    )


class Dictation:
    """A logits processor that has a model write what it is told, and keeps the scores that it would have chosen by.

    Args:
        ids: to write; behind them the model goes on by itself.
        row: which row of the batch listens; the others write their own.
    """

    def __init__(self, ids: Sequence[int], row: int = 0) -> None:
        self._ids, self._row = ids, row
        self._heard: list[Tensor] = []

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if len(self._heard) == len(self._ids):
            return scores
        said = self._ids[len(self._heard)]
        self._heard.append(scores[self._row].float().clone())
        scores = scores.clone()
        scores[self._row] = -torch.inf
        scores[self._row, said] = 0
        return scores

    @property
    def scores(self) -> Tensor:
        """[number of ids, V] before each of them."""
        return torch.stack(self._heard)


def _write(model: Any, batch: Mapping[str, Any], count: int, is_native: bool, options: Any) -> list[list[int]]:
    """Ids of the new tokens of every row."""
    with _kernels(is_native), torch.inference_mode():
        ids = model.generate(**batch, max_new_tokens=count, **options)
    return ids[:, -count:].tolist()


def _scores(make: Callable[[], Any], batch: Mapping[str, Any], is_native: bool, row: int, ids: list[int]) -> Tensor:
    """[len(ids), V] before each of a row's new tokens; beams are left out, whose scores are sums."""
    told = Dictation(ids, row)
    with _kernels(is_native), torch.inference_mode():
        make().generate(**batch, max_new_tokens=len(ids), do_sample=False, logits_processor=[told])
    return told.scores


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _kernels(is_native: bool) -> AbstractContextManager[Any]:
    return nullcontext() if is_native else library.disabled()


def bytes_of_a_step(model: Any) -> int:
    """Bytes of weights that a token reads: all but the table of words, unless that is the head, too."""
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    is_tied = head is not None and head.weight is table
    return num_bytes(model) - (0 if is_tied else table.numel() * table.element_size())
