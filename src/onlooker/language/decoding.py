"""Rows of a decoder-only model while they grow: with a cache, and without one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from onlooker.config import Config
from onlooker.language.outputs import StackOutput
from onlooker.language.protocol import Decoding
from onlooker.nn.cache import KVCache
from onlooker.nn.masks import causal_mask, compact, positions


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
    """

    def __init__(
        self, model: Decoder, inputs_embeds: Tensor, attention_mask: Tensor | None, max_new_tokens: int
    ) -> None:
        inputs_embeds, self.lengths = compact(inputs_embeds, attention_mask)
        length = inputs_embeds.shape[1]
        self._model = model
        self._cache = KVCache(model.config.get_text_config().num_hidden_layers, capacity=length + max_new_tokens)
        position_ids = torch.arange(length, device=inputs_embeds.device)[None]
        states = model.decode(inputs_embeds, position_ids, None, length > 1, self._cache)
        self._cache.advance(length)
        self._cache.set_row_lengths(self.lengths)
        self.hidden = states.last_hidden_state
        rows = torch.arange(len(self.hidden), device=self.hidden.device)
        self.logits = model.lm_head(self.hidden[rows, self.lengths.to(self.hidden.device) - 1])

    def step(self, token_ids: Tensor) -> Tensor:
        embeds = self._model.get_input_embeddings()(token_ids[:, None])
        lengths = self._cache.row_lengths
        if lengths is None:
            position_ids = torch.full((1, 1), self._cache.length, device=embeds.device)
        else:
            position_ids = lengths[:, None]
        states = self._model.decode(embeds, position_ids, self._cache.step_mask(embeds.dtype), False, self._cache)
        self._cache.advance(1)
        self.hidden = states.last_hidden_state
        self.logits = self._model.lm_head(self.hidden[:, 0])
        return self.logits

    def select(self, rows: Tensor) -> None:
        self._cache.select(rows)
        select_states(self, rows)


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
