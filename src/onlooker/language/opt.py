"""OPT, the decoder-only language model of BLIP-2 (arXiv:2205.01068), under its published module names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onlooker.language.config import OPTConfig
from onlooker.language.decoder import CausalLM
from onlooker.language.outputs import StackOutput
from onlooker.nn.activations import activation
from onlooker.nn.attend import attend, split_heads
from onlooker.nn.cache import KVCache
from onlooker.nn.dropout import drop
from onlooker.nn.initialize import init_normal
from onlooker.nn.recompute import LayerStack


class OPTPositions(nn.Embedding):
    """Learned positions; the table's first two rows are not positions, and pads take row 1."""

    OFFSET = 2

    def __init__(self, num_positions: int, hidden_size: int) -> None:
        super().__init__(num_positions + self.OFFSET, hidden_size)

    def forward(self, position_ids: Tensor) -> Tensor:
        return super().forward(position_ids + self.OFFSET)


class OPTAttention(nn.Module):
    def __init__(self, config: OPTConfig, layer: int) -> None:
        super().__init__()
        size, bias = config.hidden_size, config.enable_bias
        self.layer = layer
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.attn_implementation = "sdpa"
        self.k_proj = nn.Linear(size, size, bias=bias)
        self.v_proj = nn.Linear(size, size, bias=bias)
        self.q_proj = nn.Linear(size, size, bias=bias)
        self.out_proj = nn.Linear(size, size, bias=bias)

    def forward(
        self, x: Tensor, mask: Tensor | None, is_causal: bool, cache: KVCache | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (split_heads(project(x), self.num_heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        out, weights = attend(
            q,
            k,
            v,
            mask=mask,
            is_causal=is_causal,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.attn_implementation,
            need_weights=need_weights,
        )
        return self.out_proj(out), weights


class OPTLayer(nn.Module):
    """Norm before (all published sizes but 350M) or after each of the two residual branches."""

    def __init__(self, config: OPTConfig, layer: int) -> None:
        super().__init__()
        self.norm_before = config.do_layer_norm_before
        self.dropout = config.dropout
        self.act = activation(config.activation_function)
        affine = config.layer_norm_elementwise_affine
        self.self_attn = OPTAttention(config, layer)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden_size, elementwise_affine=affine)
        self.fc1 = nn.Linear(config.hidden_size, config.ffn_dim, bias=config.enable_bias)
        self.fc2 = nn.Linear(config.ffn_dim, config.hidden_size, bias=config.enable_bias)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, elementwise_affine=affine)

    def forward(
        self, x: Tensor, mask: Tensor | None, is_causal: bool, cache: KVCache | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        branch = self.self_attn_layer_norm(x) if self.norm_before else x
        branch, weights = self.self_attn(branch, mask, is_causal, cache, need_weights)
        x = x + drop(branch, self.dropout, self.training)
        if not self.norm_before:
            x = self.self_attn_layer_norm(x)
        branch = self.final_layer_norm(x) if self.norm_before else x
        x = x + drop(self.fc2(self.act(self.fc1(branch))), self.dropout, self.training)
        return x if self.norm_before else self.final_layer_norm(x), weights


class OPTDecoder(LayerStack):
    def __init__(self, config: OPTConfig) -> None:
        super().__init__()
        width = config.word_embed_proj_dim or config.hidden_size
        self.dropout = config.dropout
        self.layerdrop = config.layerdrop
        self.embed_tokens = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.embed_positions = OPTPositions(config.max_position_embeddings, config.hidden_size)
        self.project_out = self.project_in = self.final_layer_norm = None
        if width != config.hidden_size:
            self.project_out = nn.Linear(config.hidden_size, width, bias=False)
            self.project_in = nn.Linear(width, config.hidden_size, bias=False)
        if config.do_layer_norm_before and not config._remove_final_layer_norm:
            self.final_layer_norm = nn.LayerNorm(
                config.hidden_size, elementwise_affine=config.layer_norm_elementwise_affine
            )
        self.layers = nn.ModuleList(OPTLayer(config, i) for i in range(config.num_hidden_layers))

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None,
        need_weights: bool,
        keep_states: bool,
    ) -> StackOutput:
        if self.project_in is not None:
            inputs_embeds = self.project_in(inputs_embeds)
        positions = self.embed_positions(position_ids).to(inputs_embeds.device)
        x = drop(inputs_embeds + positions, self.dropout, self.training)
        states, attentions = [], []
        for layer in self.layers:
            if keep_states:
                states.append(x)
            if self.training and self.layerdrop and torch.rand(()) < self.layerdrop:
                continue
            x, weights = self.run_layer(layer, x, mask, is_causal, cache, need_weights)
            if need_weights:
                attentions.append(weights)
        if self.final_layer_norm is not None:
            x = self.final_layer_norm(x)
        if self.project_out is not None:
            x = self.project_out(x)
        return StackOutput(x, (*states, x) if keep_states else None, tuple(attentions) if need_weights else None)


class OPTModel(nn.Module):
    def __init__(self, config: OPTConfig) -> None:
        super().__init__()
        self.decoder = OPTDecoder(config)


class OPTLanguageModel(CausalLM):
    """OPT with its head, which is tied to the token embedding."""

    def __init__(self, config: OPTConfig) -> None:
        super().__init__()
        self.config = config
        self.model = OPTModel(config)
        self.lm_head = nn.Linear(config.word_embed_proj_dim or config.hidden_size, config.vocab_size, bias=False)
        init_normal(self, config.init_std)
        self.tie_weights()

    def tied_weights(self) -> dict[str, str]:
        """Name of each duplicate -> name of the parameter that it is."""
        return {"lm_head.weight": "model.decoder.embed_tokens.weight"} if self.config.tie_word_embeddings else {}

    def tie_weights(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.decoder.embed_tokens.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.model.decoder.embed_tokens

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.model.decoder.embed_tokens = module  # type: ignore[assignment]

    def set_output_embeddings(self, module: nn.Module) -> None:
        self.lm_head = module  # type: ignore[assignment]

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
        return self.model.decoder(inputs_embeds, position_ids, mask, is_causal, cache, need_weights, keep_states)
