"""Rows of a decoder-only model while they grow: with a cache, and without one."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from onlooker.config import Config
from onlooker.language import replay
from onlooker.language.outputs import StackOutput
from onlooker.language.protocol import Decoding
from onlooker.nn.cache import KVCache
from onlooker.nn.masks import additive, causal_mask, compact, extent, positions
from onlooker.nn.plain import plain
from onlooker.nn.prefix import KVPrefix
from onlooker.nn.rotary import stretches_from

PROMPT_AT_ONCE = 8192  # positions of all rows together that one forward pass of a prompt takes


class Decoder(Protocol):
    """What the rows here need of a model (see `CausalLM`)."""

    config: Config
    lm_head: Any

    def get_input_embeddings(self) -> Any: ...

    def decode(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None = None,
    ) -> StackOutput: ...


class CausalDecoding:
    """Cached rows.

    The prompt's pads are cut out first: rows that start together need neither a mask nor shifted positions in the
    prefill, and every row then writes at its own end.

    Attributes:
        cache, steps, captured, keeps_size: see `replay.Writes`.

    Args:
        prefix: what all rows begin with; inputs_embeds [B, T, D] and attention_mask [B, T] are of what follows it.
        chunk: positions of a row that one forward pass takes; by default so many that PROMPT_AT_ONCE is kept.

    Raises:
        ValueError: nothing follows the prefix; or prefix and prompt are longer than a model was trained on whose
            rotary positions then depend on the length of the whole, so that nothing could be run before the rest.
    """

    def __init__(
        self,
        model: Decoder,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        max_new_tokens: int,
        prefix: KVPrefix | None = None,
        chunk: int | None = None,
    ) -> None:
        if not inputs_embeds.shape[1]:
            raise ValueError("there is no position to run: cut the prefix one shorter, and give its last position anew")
        inputs_embeds, self.lengths = compact(inputs_embeds, attention_mask)
        rows, length = inputs_embeds.shape[:2]
        known = 0 if prefix is None else prefix.length
        origin, model = model, plain(model)
        self._model = model
        self._embed = model.get_input_embeddings()
        capacity = known + length + max_new_tokens
        if prefix is None:
            self.cache = KVCache(model.config.get_text_config().num_hidden_layers, capacity)
        else:
            self.cache = KVCache.from_prefix(prefix.to(inputs_embeds.device), rows, capacity)
        ends = self.lengths + known
        reach = extent(ends)  # asked for now: later it would wait for the prompt
        self._last = None
        if reach[1] > stretches_from(model.config.get_text_config()):
            if prefix is not None:
                raise ValueError(
                    f"{reach[1]} positions are more than this model was trained on, and its dynamic rope_scaling turns "
                    f"all of them by their number: run the prompt as a whole, without a prefix"
                )
            chunk, self._last = length, self.lengths.to(inputs_embeds.device)[:, None] - 1
        parts = inputs_embeds.split(chunk or max(PROMPT_AT_ONCE // rows, 256), dim=1)
        hidden = [self._forward(part, advance=True) for part in parts]
        self._last = None
        self.steps = replay.steps_of(origin)  # while a GPU runs the prompt
        self.captured: replay.Captured | None = None
        self.keeps_size = False
        self.hidden = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=1)
        self.cache.set_row_lengths(ends, reach)
        index = torch.arange(rows, device=self.hidden.device)
        self.logits = model.lm_head(self.hidden[index, self.lengths.to(self.hidden.device) - 1])

    def _forward(self, embeds: Tensor, advance: bool = False) -> Tensor:
        """Hidden states of more positions [B, T, D] of every row."""
        cache, count = self.cache, embeds.shape[1]
        position_ids = torch.arange(cache.length, cache.length + count, device=embeds.device)[None]
        if cache.row_lengths is not None:
            position_ids = cache.row_lengths[:, None] + (position_ids - cache.length)
        if self._last is not None:  # what stands behind a row's end is not of its length
            position_ids = torch.minimum(position_ids, self._last)
        is_first = not cache.length
        mask = None if is_first else cache.step_mask(embeds.dtype, embeds.device, count)
        states = self._model.decode(embeds, position_ids, mask, is_first and count > 1, cache)
        if advance:
            cache.advance(count)
        return states.last_hidden_state

    def extend(self, inputs_embeds: Tensor) -> None:
        """Run more of the prompt, [B, T, D], equally much of every row."""
        self.hidden = self._forward(inputs_embeds, advance=True)
        self.logits = self._model.lm_head(self.hidden[:, -1])

    def step(self, token_ids: Tensor) -> Tensor:
        self.hidden, self.logits = replay.write(self, token_ids)
        self.cache.advance(1)
        return self.logits

    def write(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self._forward(self._embed(token_ids[:, None]))
        return hidden, self._model.lm_head(hidden[:, 0])

    def over(self, cache: KVCache) -> CausalDecoding:
        twin = copy.copy(self)
        twin.cache, twin.steps, twin.captured = cache, None, None
        twin.hidden = twin.logits = self.logits.new_empty(0)  # else those of a prompt would live as long
        return twin

    def run(self, token_ids: Tensor, owners: Tensor | None = None) -> Tensor:
        embeds = self._embed(token_ids)
        if owners is None:
            self.hidden = self._forward(embeds)
        else:
            length = self.cache.length
            offsets, seen = side_by_side(owners, length)
            mask = additive(seen, embeds.dtype)
            self.hidden = self._model.decode(embeds, length + offsets, mask, False, self.cache).last_hidden_state
        self._after_run = self._model.lm_head(self.hidden)
        return self._after_run

    def keep(self, count: int) -> None:
        self.cache.advance(count)
        self.hidden, self.logits = self.hidden[:, :count], self._after_run[:, count - 1]

    def select(self, rows: Tensor) -> None:
        self.cache.select(rows)
        select_states(self, rows)

    def join(self, other: CausalDecoding) -> None:
        self.cache.join(other.cache)
        join_states(self, other)

    def make_room(self, rows: int, columns: int, source_columns: int = 0, exactly: bool = False) -> None:
        replay.let_go(self)
        self.keeps_size = exactly
        self.cache.make_room(rows, columns, exactly)

    def snapshot(self, row: int = 0, length: int | None = None) -> KVPrefix:
        most = int(self.cache.lengths(self.lengths.device)[row])
        if length is not None and not 1 <= length <= most:
            raise ValueError(f"row {row} has run {most} positions; a snapshot of {length} was asked for")
        return self.cache.snapshot(row, length or most)

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes


class UncachedDecoding:
    """Rows that are run anew for every token, pads and all."""

    def __init__(self, model: Decoder, inputs_embeds: Tensor, attention_mask: Tensor | None) -> None:
        _, self.lengths = compact(inputs_embeds, attention_mask)
        self._model = model
        self._embeds = inputs_embeds
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
        self._mask = attention_mask
        last = torch.where(self._mask.bool(), torch.arange(inputs_embeds.shape[1], device=self._mask.device), -1)
        hidden = self._run()
        self.logits = model.lm_head(hidden[torch.arange(len(hidden), device=hidden.device), last.max(1).values])
        self.hidden = compact(hidden, self._mask)[0]

    def _run(self) -> Tensor:
        length = self._embeds.shape[1]
        mask, is_causal = causal_mask(self._mask, length, length, self._embeds.dtype, self._embeds.device)
        return self._model.decode(self._embeds, positions(self._mask), mask, is_causal).last_hidden_state

    def step(self, token_ids: Tensor) -> Tensor:
        embeds = self._model.get_input_embeddings()(token_ids[:, None])
        self._embeds = torch.cat([self._embeds, embeds], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self.hidden = self._run()[:, -1:]
        self.logits = self._model.lm_head(self.hidden[:, 0])
        return self.logits

    def select(self, rows: Tensor) -> None:
        self._embeds, self._mask = self._embeds[rows], self._mask[rows]
        select_states(self, rows)


def select_states(decoding: Decoding, rows: Tensor) -> None:
    """The part of `select` that is the same for all: what the last step left."""
    decoding.logits, decoding.hidden = decoding.logits[rows], decoding.hidden[rows]
    decoding.lengths = decoding.lengths[rows]


def join_states(decoding: Decoding, other: Decoding) -> None:
    """The part of `join` that is the same for all. Hidden states are of unequal lengths then: the last ones stay."""
    decoding.logits = torch.cat([decoding.logits, other.logits])
    decoding.hidden = torch.cat([decoding.hidden[:, -1:], other.hidden[:, -1:]])
    decoding.lengths = torch.cat([decoding.lengths, other.lengths])


def side_by_side(owners: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Several continuations of one row in one row.

    Args:
        owners: [T] whose each token is; those of one owner stand in order.
        length: positions of the row so far, which all of them see.

    Returns:
        Positions behind the row [1, T], and what each token sees [1, 1, T, length + T].
    """
    own = (owners[:, None] == owners).tril()
    return own.sum(1)[None] - 1, torch.cat([own.new_ones(len(owners), length), own], dim=1)[None, None]
