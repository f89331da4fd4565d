"""Rows of T5 while they grow: the encoder's work is done once, the decoder writes."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from onlooker.language import replay
from onlooker.language.decoding import join_states, select_states, side_by_side
from onlooker.language.outputs import StackOutput
from onlooker.nn.cache import CrossCache
from onlooker.nn.masks import additive, compact, extent
from onlooker.nn.plain import plain
from onlooker.nn.prefix import SourcePrefix


class EncoderDecoder(Protocol):
    """What the rows here need of a model (see `T5LanguageModel`)."""

    shared: Any
    decoder: Any

    def encode(self, inputs_embeds: Tensor, attention_mask: Tensor | None) -> StackOutput: ...

    def decode(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        source: Tensor,
        source_mask: Tensor | None,
        cache: CrossCache | None = None,
    ) -> StackOutput: ...

    def head(self, hidden: Tensor) -> Tensor: ...


class T5Decoding:
    """Rows with their encoder output; pads are cut out of both sides first.

    Attributes:
        cache, steps, captured, keeps_size: see `replay.Writes`.

    Args:
        use_cache: False runs the decoder over the whole row for every token.
        prefix: what the encoder made of the one prompt of all rows; inputs_embeds is None then.

    Raises:
        ValueError: both a prompt and what the encoder made of it, or neither.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None,
        max_new_tokens: int,
        use_cache: bool,
        prefix: SourcePrefix | None = None,
    ) -> None:
        if (inputs_embeds is None) == (prefix is None):
            raise ValueError("give either the prompt's inputs_embeds or the prefix that its encoder made")
        origin, model = model, plain(model)
        self._model = model
        self._ids, self.lengths = compact(decoder_input_ids, decoder_attention_mask)
        reach = extent(self.lengths)  # asked for now: later it would wait for the encoder
        if prefix is not None:
            self._source: Tensor | None = prefix.states.to(self._ids.device).expand(len(self._ids), -1, -1)
            self._source_lengths = torch.full((len(self._ids),), prefix.length, device=self._ids.device)
            source_reach, kept = (prefix.length, prefix.length), None
        else:
            assert inputs_embeds is not None  # one of the two was given
            inputs_embeds, self._source_lengths = compact(inputs_embeds, attention_mask)
            source_reach = extent(self._source_lengths)
            columns = torch.arange(inputs_embeds.shape[1], device=self._source_lengths.device)
            kept = None if min(source_reach) == len(columns) else columns < self._source_lengths[:, None]
            self._source = model.encode(inputs_embeds, kept).last_hidden_state
        self._source_mask = None if kept is None else additive(kept[:, None, None], self._source.dtype)
        length = self._ids.shape[1]
        self._ends = self.lengths.clone()  # without a cache
        self.cache = CrossCache(len(model.decoder.block), capacity=length + max_new_tokens) if use_cache else None
        self._bias = self._bias_by_distance(length + max_new_tokens)
        self._run(self._ids)
        self.steps = replay.steps_of(origin) if use_cache else None  # while a GPU runs the prompt
        self.captured: replay.Captured | None = None
        self.keeps_size = False
        if self.cache is not None:
            self.cache.self_attention.advance(length)
            self.cache.self_attention.set_row_lengths(self.lengths, reach)
            self.cache.set_source_lengths(self._source_lengths, source_reach)

    def _run(self, ids: Tensor) -> None:
        """Decode ids [B, T] that are right-padded by now; leave the scores behind every row's end."""
        model = self._model
        assert self._source is not None  # it is dropped only where a cache has its keys
        states = model.decode(model.shared(ids), None, self._source, self._source_mask, self.cache)
        self.hidden = states.last_hidden_state
        rows = torch.arange(len(ids), device=self.hidden.device)
        self.logits = model.head(self.hidden[rows, self._ends.to(self.hidden.device) - 1])

    def step(self, token_ids: Tensor) -> Tensor:
        if self.cache is None:
            return self._step_uncached(token_ids)
        self.hidden, self.logits = replay.write(self, token_ids)
        self.cache.self_attention.advance(1)
        return self.logits

    def write(self, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        embeds = self._model.shared(token_ids[:, None])
        hidden = self._decode(embeds, self._step_mask(embeds.dtype))
        return hidden, self._model.head(hidden[:, 0])

    def over(self, cache: CrossCache) -> T5Decoding:
        twin = copy.copy(self)
        twin.cache, twin.steps, twin.captured = cache, None, None
        twin.hidden = twin.logits = self.logits.new_empty(0)  # else those of a prompt would live as long
        columns = cache.self_attention.buffer_columns
        if columns != self._bias.shape[-1]:
            twin._bias = self._bias_by_distance(columns)
        twin._read_from_cache()
        return twin

    def run(self, token_ids: Tensor, owners: Tensor | None = None) -> Tensor:
        embeds, cache = self._model.shared(token_ids), self._cached.self_attention
        device, count = embeds.device, token_ids.shape[1]
        columns = torch.arange(cache.length, device=device)[None]  # where the keys stand
        if owners is None:
            hidden = cache.step_mask(embeds.dtype, device, count)
            columns = torch.arange(cache.length + count, device=device)[None]
            places = cache.lengths(device)[:, None] + torch.arange(count, device=device)
        else:
            offsets, seen = side_by_side(owners, cache.length)
            hidden, places = additive(seen, embeds.dtype), cache.length + offsets
            columns = torch.cat([columns, places], dim=1)
        mask = self._model.decoder.bias(places, columns)
        self.hidden = self._decode(embeds, mask if hidden is None else mask + hidden)
        self._after_run = self._model.head(self.hidden)
        return self._after_run

    def keep(self, count: int) -> None:
        self._cached.self_attention.advance(count)
        self.hidden, self.logits = self.hidden[:, :count], self._after_run[:, count - 1]

    def _decode(self, embeds: Tensor, mask: Tensor) -> Tensor:
        return self._model.decoder(embeds, mask, self._source, self._source_mask, self.cache).last_hidden_state

    @property
    def _cached(self) -> CrossCache:
        if self.cache is None:
            raise ValueError("rows without a cache can only be stepped: leave use_cache on")
        return self.cache

    def _bias_by_distance(self, capacity: int) -> Tensor:
        """[1, H, 1, capacity] what the last of `capacity` positions adds to the scores of each."""
        index = torch.arange(capacity, device=self._ids.device)[None]
        return self._model.decoder.bias(index[:, -1:], index)

    def _step_mask(self, dtype: torch.dtype) -> Tensor:
        """Bias of the next position of every row, and what hides the columns behind the end of shorter rows."""
        cache = self._cached.self_attention
        end = cache.length + 1
        if end > self._bias.shape[-1]:
            self._bias = self._bias_by_distance(2 * end)
        capacity = self._bias.shape[-1]
        hidden = cache.step_mask(dtype, self._bias.device)
        if hidden is None or cache.row_lengths is None:
            return self._bias[..., capacity - end :]
        columns = torch.arange(end, device=self._bias.device) + (capacity - 1 - cache.row_lengths[:, None])
        bias = self._bias[0, :, 0, columns.clamp(max=capacity - 1)]  # [H, B, end]
        return bias.transpose(0, 1)[:, :, None] + hidden

    def _step_uncached(self, token_ids: Tensor) -> Tensor:
        self._ends = self._ends + 1
        self._ids = torch.cat([self._ids, torch.zeros_like(self._ids[:, :1])], dim=1)
        rows = torch.arange(len(self._ids), device=self._ids.device)
        self._ids[rows, self._ends - 1] = token_ids
        self._run(self._ids)
        self.hidden = self.hidden[rows, self._ends - 1][:, None]
        return self.logits

    def select(self, rows: Tensor) -> None:
        if self.cache is not None:
            self.cache.select(rows)
            self._read_from_cache()
        else:
            assert self._source is not None  # see `_run`
            self._source, self._ids, self._ends = self._source[rows], self._ids[rows], self._ends[rows]
            if self._source_mask is not None:
                self._source_mask = self._source_mask[rows]
        select_states(self, rows)

    def join(self, other: T5Decoding) -> None:
        self._cached.join(other._cached)
        self._read_from_cache()
        join_states(self, other)

    def make_room(self, rows: int, columns: int, source_columns: int = 0, exactly: bool = False) -> None:
        replay.let_go(self)
        self.keeps_size = exactly
        self._cached.make_room(rows, columns, source_columns, exactly)
        self._read_from_cache()

    def _read_from_cache(self) -> None:
        """The cache has the encoder's keys: its output is not read again. Hide what is no source of a row."""
        source = self._cached.source
        self._source = None
        if source.row_lengths is None:
            self._source_mask = None
        else:
            columns = torch.arange(source.length, device=source.row_lengths.device)
            seen = columns < source.row_lengths[:, None]
            self._source_mask = additive(seen[:, None, None], self.logits.dtype)

    def snapshot(self, row: int = 0, length: int | None = None) -> SourcePrefix:
        if length is not None:
            raise ValueError("an encoder reads its prompt as a whole: there is no snapshot of its first positions")
        if self._source is None:
            raise ValueError("take the snapshot before rows are selected or joined: the encoder's output is gone now")
        return SourcePrefix(self._source[row : row + 1, : int(self._source_lengths[row])].clone())

    @property
    def nbytes(self) -> int:
        kept = 0 if self._source is None else self._source.nbytes
        return kept + (0 if self.cache is None else self.cache.nbytes)
