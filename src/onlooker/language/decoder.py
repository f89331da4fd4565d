"""What every decoder-only language model does around its layers: forward, loss, and the start of a generation.

Letters: B batch, T new positions, S all positions, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onlooker.config import Config
from onlooker.language.decoding import CausalDecoding, UncachedDecoding
from onlooker.language.loss import next_token_loss
from onlooker.language.outputs import CausalLMOutput, StackOutput
from onlooker.language.protocol import Decoding
from onlooker.nn.cache import KVCache
from onlooker.nn.masks import causal_mask, positions
from onlooker.nn.prefix import KVPrefix
from onlooker.nn.rows import own_rows
from onlooker.outputs import output_options


class CausalLM(nn.Module):
    """A decoder with a language-model head. A subclass has `lm_head`, its embedding, and `decode`."""

    config: Config
    lm_head: nn.Linear

    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError

    def decode(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None = None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> StackOutput:
        """Run the layers and the final norm.

        Args:
            inputs_embeds: [B, T, D].
            position_ids: [B or 1, T]; -1 at pads.
            mask: added to the scores, [B or 1, 1, T, S].
            is_causal: plain causal attention, without a mask.
            cache: what ran before; the new keys are appended, the caller advances it.
        """
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | Tensor = 0,
    ) -> CausalLMOutput | tuple:
        """Scores of the next token at every position.

        Args:
            input_ids: [B, T]; or inputs_embeds [B, T, D].
            attention_mask: [B, S], 1 = attended, over what the cache holds and the new tokens.
            position_ids: [B, T]; counted along the mask by default.
            past_key_values: the cache of an earlier call.
            labels: [B, T]; gives `loss`.
            logits_to_keep: only the last n positions, or the positions of an index tensor; 0 keeps all.

        Raises:
            ValueError: not exactly one of input_ids and inputs_embeds, or a mask of another length.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        cache = new_cache(self.config, past_key_values, use_cache, self.training)
        states = run_decoder(self.decode, inputs_embeds, attention_mask, position_ids, cache, need_weights, keep_states)
        hidden = states.last_hidden_state
        logits = self.lm_head(keep_positions(hidden, logits_to_keep))
        loss = None if labels is None else next_token_loss(logits, labels, attention_mask)
        output = CausalLMOutput(loss, logits, cache, states.hidden_states, states.attentions)
        return output if as_record else output.to_tuple()

    def begin(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        max_new_tokens: int,
        use_cache: bool = True,
        *,
        prefix: KVPrefix | None = None,
        chunk: int | None = None,
    ) -> Decoding:
        """Run the prompt and be ready for `max_new_tokens` more.

        Args:
            inputs_embeds: [B, T, D]; what follows the prefix where there is one.
            attention_mask: [B, T], 1 = attended; pads may stand anywhere.
            use_cache: False runs the whole row again for every token.
            prefix: the snapshot of another decoding, that all rows begin with.
            chunk: positions of a row that are run at once; bounds the memory of a long prompt.

        Raises:
            ValueError: a prefix without a cache, or nothing behind the prefix.
        """
        if use_cache:
            return CausalDecoding(self, inputs_embeds, attention_mask, max_new_tokens, prefix, chunk)
        if prefix is not None:
            raise ValueError("a prefix is a part of a cache: leave use_cache on to continue from it")
        return UncachedDecoding(self, inputs_embeds, attention_mask)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head


def run_decoder(
    decode: Callable[..., StackOutput],
    inputs_embeds: Tensor,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    cache: KVCache | None,
    need_weights: bool = False,
    keep_states: bool = False,
) -> StackOutput:
    """Call `decode` (see `CausalLM.decode`) with mask and positions as a forward pass wants them.

    Args:
        inputs_embeds: [B, T, D].
        attention_mask: [B, S], over what the cache holds and the new tokens; None attends all.
        position_ids: [B, T]; counted along the mask by default.

    Raises:
        ValueError: a mask of another length.
    """
    past, length = cache.length if cache is not None else 0, inputs_embeds.shape[1]
    if attention_mask is not None and attention_mask.shape != (len(inputs_embeds), past + length):
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; wanted {(len(inputs_embeds), past + length)}: "
            f"a row for each sequence, over {past} cached and {length} new tokens"
        )
    if position_ids is None:
        if attention_mask is None:
            position_ids = torch.arange(past, past + length, device=inputs_embeds.device)[None]
        else:
            position_ids = positions(attention_mask)[:, past:]
    mask, is_causal = causal_mask(attention_mask, length, past + length, inputs_embeds.dtype, inputs_embeds.device)
    states = decode(inputs_embeds, position_ids, mask, is_causal, cache, need_weights, keep_states)
    if cache is not None:
        cache.advance(length)
    return states


def new_cache(config: Config, past: KVCache | None, use_cache: bool | None, training: bool) -> KVCache | None:
    """The cache of an earlier call, or a new one where it is wanted."""
    wanted = getattr(config, "use_cache", True) if use_cache is None else use_cache
    if past is not None:
        return past
    return KVCache(config.num_hidden_layers) if wanted and not training else None


def keep_positions(hidden: Tensor, logits_to_keep: int | Tensor) -> Tensor:
    """The last n positions of [B, T, D], or those of an index tensor; 0 keeps all."""
    if isinstance(logits_to_keep, Tensor):
        return hidden[:, logits_to_keep]
    return own_rows(hidden[:, -logits_to_keep:]) if logits_to_keep else hidden
