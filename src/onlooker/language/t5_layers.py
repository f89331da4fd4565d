"""The blocks of T5 (arXiv:1910.10683), under their published module names.

Letters: B batch, T queries, S keys, D hidden, H heads, K head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from onlooker.language.config import T5Config
from onlooker.language.outputs import StackOutput
from onlooker.nn.activations import activation
from onlooker.nn.attend import attend, split_heads
from onlooker.nn.cache import CrossCache
from onlooker.nn.dropout import drop
from onlooker.nn.norm import RMSNorm
from onlooker.nn.recompute import LayerStack


class Float32Linear(nn.Linear):
    """A linear layer that stays in float32 when the model is cast to float16.

    T5's feed-forward outputs leave the range of float16. A cast to any other type is followed.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        before = {name: parameter.data for name, parameter in self.named_parameters(recurse=False)}
        super()._apply(fn, recurse)
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.dtype == torch.float16:
                parameter.data = before[name].to(parameter.device, torch.float32)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def distance_bucket(distance: Tensor, num_buckets: int, max_distance: int, is_causal: bool) -> Tensor:
    """Bucket of key position minus query position: exact when near, logarithmic up to max_distance."""
    offset = torch.zeros_like(distance)
    if is_causal:
        distance = (-distance).clamp(min=0)
    else:
        num_buckets //= 2
        offset = (distance > 0) * num_buckets
        distance = distance.abs()
    exact = num_buckets // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class T5Attention(nn.Module):
    """Unscaled attention: the scale is in the weights."""

    def __init__(self, config: T5Config, has_bias: bool = False, is_causal: bool = False) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.num_heads = config.num_heads
        self.is_causal = is_causal
        self.num_buckets = config.relative_attention_num_buckets
        self.max_distance = config.relative_attention_max_distance
        self.dropout = config.dropout_rate
        self.attn_implementation = "sdpa"
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if has_bias:
            self.relative_attention_bias = nn.Embedding(self.num_buckets, config.num_heads)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """[B or 1, T] and [B or 1, S] -> [B or 1, H, T, S] to add to the scores."""
        distance = key_positions[:, None, :] - query_positions[:, :, None]
        bucket = distance_bucket(distance, self.num_buckets, self.max_distance, self.is_causal)
        return self.relative_attention_bias(bucket).permute(0, 3, 1, 2).contiguous()  # each layer reads it as it lies

    def heads(self, x: Tensor) -> Tensor:
        return split_heads(x, self.num_heads)  # [B, H, T, K]

    def forward(
        self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        out, weights = attend(
            self.heads(self.q(x)),
            k,
            v,
            mask=mask,
            scale=1.0,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.attn_implementation,
            need_weights=need_weights,
        )
        return self.o(out), weights


class T5SelfAttention(nn.Module):
    def __init__(self, config: T5Config, layer: int, is_causal: bool) -> None:
        super().__init__()
        self.layer = layer
        self.SelfAttention = T5Attention(config, has_bias=layer == 0, is_causal=is_causal)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = config.dropout_rate

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: CrossCache | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        attention, normed = self.SelfAttention, self.layer_norm(x)
        k, v = attention.heads(attention.k(normed)), attention.heads(attention.v(normed))
        if cache is not None:
            k, v = cache.self_attention.append(self.layer, k, v)
        out, weights = attention(normed, k, v, mask, need_weights)
        return x + drop(out, self.dropout, self.training), weights


class T5CrossAttention(nn.Module):
    def __init__(self, config: T5Config, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.EncDecAttention = T5Attention(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = config.dropout_rate

    def forward(
        self, x: Tensor, source: Tensor, mask: Tensor | None, cache: CrossCache | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        attention = self.EncDecAttention
        pair = cache.cross[self.layer] if cache is not None else None
        if pair is None:
            pair = attention.heads(attention.k(source)), attention.heads(attention.v(source))
            if cache is not None:
                cache.cross[self.layer] = pair
        out, weights = attention(self.layer_norm(x), *pair, mask, need_weights)
        return x + drop(out, self.dropout, self.training), weights


class T5DenseReluDense(nn.Module):
    """wo(act(wi x)), or gated: wo(act(wi_0 x) · wi_1 x)."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.is_gated = config.is_gated_act
        if self.is_gated:
            self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
            self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        else:
            self.wi = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = Float32Linear(config.d_ff, config.d_model, bias=False)
        self.dropout = config.dropout_rate
        self.act = activation(config.dense_act_fn or "relu")

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.wi_0(x)) * self.wi_1(x) if self.is_gated else self.act(self.wi(x))
        return self.wo(drop(inner, self.dropout, self.training))


class T5FeedForward(nn.Module):
    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = T5DenseReluDense(config)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = config.dropout_rate

    def forward(self, x: Tensor) -> Tensor:
        return x + drop(self.DenseReluDense(self.layer_norm(x)), self.dropout, self.training)


class T5Block(nn.Module):
    def __init__(self, config: T5Config, layer: int, is_decoder: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = [T5SelfAttention(config, layer, is_causal=is_decoder)]
        if is_decoder:
            parts.append(T5CrossAttention(config, layer))
        self.layer = nn.ModuleList([*parts, T5FeedForward(config)])

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        source: Tensor | None,
        source_mask: Tensor | None,
        cache: CrossCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, weights = self.layer[0](x, mask, cache, need_weights)
        x, cross_weights = _in_range(x), None
        if len(self.layer) == 3:
            x, cross_weights = self.layer[1](x, source, source_mask, cache, need_weights)
            x = _in_range(x)
        return _in_range(self.layer[-1](x)), weights, cross_weights


def _in_range(x: Tensor) -> Tensor:
    """Keep a float16 residual finite."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max
    limit = torch.where(x.isinf().any(), largest - 1000, largest)
    return torch.clamp(x, min=-limit, max=limit)


class T5Stack(LayerStack):
    """Encoder or decoder."""

    def __init__(self, config: T5Config, embed_tokens: nn.Module, is_decoder: bool) -> None:
        super().__init__()
        count = config.num_decoder_layers if is_decoder else config.num_layers
        self.embed_tokens = embed_tokens
        self.block = nn.ModuleList(T5Block(config, i, is_decoder) for i in range(count or 0))
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = config.dropout_rate

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """The relative bias that all layers share."""
        first: Any = self.block[0]
        return first.layer[0].SelfAttention.bias(query_positions, key_positions)

    def forward(
        self,
        inputs_embeds: Tensor,
        mask: Tensor,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        cache: CrossCache | None = None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> StackOutput:
        """
        Args:
            inputs_embeds: [B, T, D].
            mask: bias and padding added together, [B or 1, H, T, S].
            source: what the encoder gave, for the decoder; `source_mask` hides its pads.
        """
        x = drop(inputs_embeds, self.dropout, self.training)
        states, attentions, cross_attentions = [x], [], []
        for block in self.block:
            x, weights, cross = self.run_layer(block, x, mask, source, source_mask, cache, need_weights)
            if keep_states:
                states.append(x)
            if need_weights:
                attentions.append(weights)
                if cross is not None:
                    cross_attentions.append(cross)
        x = drop(self.final_layer_norm(x), self.dropout, self.training)
        return StackOutput(
            x,
            (*states[:-1], x) if keep_states else None,
            tuple(attentions) if need_weights else None,
            tuple(cross_attentions) if cross_attentions else None,
        )
