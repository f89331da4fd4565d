"""Rows of T5 while they grow: the encoder's work is done once, the decoder writes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from onlooker.language.decoding import select_states
from onlooker.language.outputs import StackOutput
from onlooker.nn.cache import CrossCache
from onlooker.nn.masks import additive, compact


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

    Args:
        use_cache: False runs the decoder over the whole row for every token.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None,
        max_new_tokens: int,
        use_cache: bool,
    ) -> None:
        self._model = model
        inputs_embeds, source_lengths = compact(inputs_embeds, attention_mask)
        source_mask = _kept(source_lengths, inputs_embeds.shape[1])
        self._source = model.encode(inputs_embeds, source_mask).last_hidden_state
        self._source_mask = None if source_mask is None else additive(source_mask[:, None, None], self._source.dtype)
        self._ids, self.lengths = compact(decoder_input_ids, decoder_attention_mask)
        self._ends = self.lengths.clone()
        length = self._ids.shape[1]
        self._cache = CrossCache(len(model.decoder.block), capacity=length + max_new_tokens) if use_cache else None
        self._bias = self._bias_by_distance(length + max_new_tokens)
        self._run(self._ids)
        if self._cache is not None:
            self._cache.self_attention.advance(length)
            self._cache.self_attention.set_row_lengths(self.lengths)

    def _run(self, ids: Tensor) -> None:
        """Decode ids [B, T] that are right-padded by now; leave the scores behind every row's end."""
        model = self._model
        states = model.decode(model.shared(ids), None, self._source, self._source_mask, self._cache)
        self.hidden = states.last_hidden_state
        rows = torch.arange(len(ids), device=self.hidden.device)
        self.logits = model.head(self.hidden[rows, self._ends.to(self.hidden.device) - 1])

    def step(self, token_ids: Tensor) -> Tensor:
        self._ends = self._ends + 1
        if self._cache is None:
            return self._step_uncached(token_ids)
        model, cache = self._model, self._cache.self_attention
        embeds = model.shared(token_ids[:, None])
        states = model.decoder(embeds, self._step_mask(embeds.dtype), self._source, self._source_mask, self._cache)
        cache.advance(1)
        self.hidden = states.last_hidden_state
        self.logits = model.head(self.hidden[:, 0])
        return self.logits

    def _bias_by_distance(self, capacity: int) -> Tensor:
        """[1, H, 1, capacity] what the last of `capacity` positions adds to the scores of each."""
        index = torch.arange(capacity, device=self._ids.device)[None]
        return self._model.decoder.bias(index[:, -1:], index)

    def _step_mask(self, dtype: torch.dtype) -> Tensor:
        """Bias of the next position of every row, and what hides the columns behind the end of shorter rows."""
        assert self._cache is not None  # without a cache there are no steps of this kind
        cache, capacity = self._cache.self_attention, self._bias.shape[-1]
        end = cache.length + 1
        hidden = cache.step_mask(dtype)
        if hidden is None or cache.row_lengths is None:
            return self._bias[..., capacity - end :]
        columns = torch.arange(end, device=self._bias.device) + (capacity - 1 - cache.row_lengths[:, None])
        bias = self._bias[0, :, 0, columns.clamp(max=capacity - 1)]  # [H, B, end]
        return bias.transpose(0, 1)[:, :, None] + hidden

    def _step_uncached(self, token_ids: Tensor) -> Tensor:
        self._ids = torch.cat([self._ids, torch.zeros_like(self._ids[:, :1])], dim=1)
        rows = torch.arange(len(self._ids), device=self._ids.device)
        self._ids[rows, self._ends - 1] = token_ids
        self._run(self._ids)
        self.hidden = self.hidden[rows, self._ends - 1][:, None]
        return self.logits

    def select(self, rows: Tensor) -> None:
        if self._cache is not None:
            self._cache.select(rows)
        else:  # with a cache the encoder's output is not read again
            self._source = self._source[rows]
        self._ids, self._ends = self._ids[rows], self._ends[rows]
        if self._source_mask is not None:
            self._source_mask = self._source_mask[rows]
        select_states(self, rows)


def _kept(lengths: Tensor, longest: int) -> Tensor | None:
    """[B, longest] mask of right-padded rows; None when none is padded."""
    if bool((lengths == longest).all()):
        return None
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
