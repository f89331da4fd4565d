"""The Q-Former: learned queries, and text beside them, that look at picture features.

BERT-style post-norm layers (BLIP-2, arXiv:2301.12597, section 3.1). Module names are the published ones.
Letters: B batch, Q query tokens, T queries and text together, S picture features, D hidden, H heads, K head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onlooker.bridge.config import Blip2QFormerConfig
from onlooker.nn.activations import activation
from onlooker.nn.attend import attend, split_heads
from onlooker.nn.dropout import drop
from onlooker.nn.masks import padding_mask
from onlooker.nn.recompute import LayerStack
from onlooker.nn.rows import own_rows
from onlooker.outputs import FILLED, ModelOutput


class QFormerOutput(ModelOutput):
    """Query features [B, T, D], the first of them, and what was asked for per layer."""

    last_hidden_state: Tensor = FILLED
    pooler_output: Tensor = FILLED
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


class QFormerHeads(nn.Module):
    """The attention itself, over the queries or, with `is_cross`, over the picture features."""

    def __init__(self, config: Blip2QFormerConfig, is_cross: bool) -> None:
        super().__init__()
        source_size = config.encoder_hidden_size if is_cross else config.hidden_size
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.attn_implementation = "sdpa"
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(source_size, config.hidden_size)
        self.value = nn.Linear(source_size, config.hidden_size)
        # A cross-attention keeps its table for the checkpoint's sake: distances to a picture mean nothing.
        self.distances = config.position_embedding_type if not is_cross else "absolute"
        if config.position_embedding_type != "absolute":
            self.distance_embedding = nn.Embedding(2 * config.max_position_embeddings - 1, self.head_dim)

    def forward(
        self, x: Tensor, source: Tensor, mask: Tensor | None, head_mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            split_heads(project(states), self.num_heads)  # [B, H, T or S, K]
            for project, states in ((self.query, x), (self.key, source), (self.value, source))
        )
        if self.distances != "absolute":
            relative = self._relative_scores(q, k) * self.head_dim**-0.5
            mask = relative if mask is None else relative + mask
        return attend(
            q,
            k,
            v,
            mask=mask,
            head_mask=head_mask,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.attn_implementation,
            need_weights=need_weights,
        )

    def _relative_scores(self, q: Tensor, k: Tensor) -> Tensor:
        """Learned score of every distance (Shaw et al., arXiv:1803.02155), [B, H, T, T]."""
        index = torch.arange(q.shape[2], device=q.device)
        center = self.distance_embedding.num_embeddings // 2
        table = self.distance_embedding(index[:, None] - index + center).to(q.dtype)  # [T, T, K]
        scores = torch.einsum("bhtk,tsk->bhts", q, table)
        if self.distances == "relative_key_query":
            scores = scores + torch.einsum("bhsk,tsk->bhts", k, table)
        return scores


class ResidualNorm(nn.Module):
    """Project, drop out, add the residual, normalise: the end of every post-norm block."""

    def __init__(self, config: Blip2QFormerConfig, input_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = config.hidden_dropout_prob

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(drop(self.dense(x), self.dropout, self.training) + residual)


class QFormerAttention(nn.Module):
    def __init__(self, config: Blip2QFormerConfig, is_cross: bool = False) -> None:
        super().__init__()
        self.attention = QFormerHeads(config, is_cross)
        self.output = ResidualNorm(config, config.hidden_size)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        source: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        out, weights = self.attention(x, x if source is None else source, mask, head_mask, need_weights)
        return self.output(out, x), weights


class Intermediate(nn.Module):
    def __init__(self, config: Blip2QFormerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.dense(x))


class QFormerLayer(nn.Module):
    """Self-attention over queries and text; cross-attention and an own feed-forward for the queries.

    Args:
        config: shape.
        index: position in the stack; every cross_attention_frequency-th layer looks at the picture.
        has_text: whether there is a feed-forward for text.
    """

    def __init__(self, config: Blip2QFormerConfig, index: int, has_text: bool) -> None:
        super().__init__()
        self.attention = QFormerAttention(config)
        self.has_cross_attention = index % config.cross_attention_frequency == 0
        if self.has_cross_attention:
            self.crossattention = QFormerAttention(config, is_cross=True)
        if has_text:
            self.intermediate = Intermediate(config)
            self.output = ResidualNorm(config, config.intermediate_size)
        self.intermediate_query = Intermediate(config)
        self.output_query = ResidualNorm(config, config.intermediate_size)

    def forward(
        self,
        x: Tensor,
        query_length: int,
        mask: Tensor | None,
        head_mask: Tensor | None,
        source: Tensor | None,
        source_mask: Tensor | None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, weights = self.attention(x, mask, head_mask, need_weights=need_weights)
        queries, text = own_rows(x[:, :query_length]), own_rows(x[:, query_length:])
        cross_weights = None
        if query_length:
            if self.has_cross_attention:
                if source is None:
                    raise ValueError(
                        "encoder_hidden_states is missing: query tokens are there and this layer has them look at the "
                        "picture. Give the vision features, or query_length=0 for text alone."
                    )
                queries, cross_weights = self.crossattention(queries, source_mask, head_mask, source, need_weights)
            queries = self.output_query(self.intermediate_query(queries), queries)
        if text.shape[1]:
            if not hasattr(self, "intermediate"):
                raise ValueError("text was given to a Q-Former without text layers (use_qformer_text_input is False)")
            text = self.output(self.intermediate(text), text)
        x = torch.cat([queries, text], dim=1) if query_length and text.shape[1] else (queries if query_length else text)
        return x, weights, cross_weights


class QFormerEncoder(LayerStack):
    def __init__(self, config: Blip2QFormerConfig, has_text: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList(QFormerLayer(config, i, has_text) for i in range(config.num_hidden_layers))

    def forward(
        self,
        x: Tensor,
        query_length: int,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> QFormerOutput:
        """Run embedded queries and text.

        Args:
            x: [B, T, D], queries first, text behind them.
            query_length: how many of the T are queries.
            attention_mask: [B, T] or [B, T, T], 1 = keep.
            head_mask: [H] or [layers, H], multiplies the attention weights of each head.
            source: picture features [B, S, width of the vision tower].
            source_mask: [B, S], 1 = keep.

        Raises:
            ValueError: queries without picture features, text without text layers, or a mask of another shape.
        """
        mask, source_mask = padding_mask(attention_mask, x.dtype), padding_mask(source_mask, x.dtype)
        by_layer = _head_masks(head_mask, len(self.layer))
        source = None if source is None else source.to(x.dtype)
        states, attentions, cross_attentions = [x], [], []
        for index, layer in enumerate(self.layer):
            heads = None if by_layer is None else by_layer[index]
            x, weights, cross = self.run_layer(layer, x, query_length, mask, heads, source, source_mask, need_weights)
            if keep_states:
                states.append(x)
            if need_weights:
                attentions.append(weights)
                if cross is not None:
                    cross_attentions.append(cross)
        return QFormerOutput(
            x,
            x[:, 0],
            tuple(states) if keep_states else None,
            tuple(attentions) if need_weights else None,
            tuple(cross_attentions) if cross_attentions else None,
        )


def _head_masks(head_mask: Tensor | None, num_layers: int) -> Tensor | None:
    """[H] or [layers, H] with 1 = keep -> [layers, 1, H, 1, 1].

    Raises:
        ValueError: another shape.
    """
    if head_mask is None:
        return None
    if head_mask.dim() == 1:
        head_mask = head_mask.expand(num_layers, -1)
    if head_mask.dim() != 2 or len(head_mask) != num_layers:
        raise ValueError(f"head_mask has shape {tuple(head_mask.shape)}; wanted [heads] or [{num_layers}, heads]")
    return head_mask[:, None, :, None, None]
