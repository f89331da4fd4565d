"""LLaMA (arXiv:2302.13971), the language model of Video-LLaVA and InstructBLIP-Vicuna, under its published names."""

from __future__ import annotations

from torch import Tensor, nn

from onlooker.language.config import LlamaConfig
from onlooker.language.decoder import CausalLM
from onlooker.language.outputs import StackOutput
from onlooker.nn.activations import activation
from onlooker.nn.attend import attend, split_heads
from onlooker.nn.cache import KVCache
from onlooker.nn.initialize import init_normal
from onlooker.nn.norm import RMSNorm
from onlooker.nn.recompute import LayerStack
from onlooker.nn.rotary import Rotary, rotate


class LlamaAttention(nn.Module):
    """Grouped-query attention: several query heads share a key and value head."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        size, bias = config.hidden_size, config.attention_bias
        self.layer = layer
        self.num_heads, self.num_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dropout = config.attention_dropout
        self.attn_implementation = "sdpa"
        self.q_proj = nn.Linear(size, self.num_heads * config.head_dim, bias=bias)
        self.k_proj = nn.Linear(size, self.num_kv_heads * config.head_dim, bias=bias)
        self.v_proj = nn.Linear(size, self.num_kv_heads * config.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.num_heads * config.head_dim, size, bias=bias)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor | None],
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        q = rotate(split_heads(self.q_proj(x), self.num_heads), *rotary)
        k = rotate(split_heads(self.k_proj(x), self.num_kv_heads), *rotary)
        v = split_heads(self.v_proj(x), self.num_kv_heads)
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
        return self.o_proj(out), weights


class LlamaMLP(nn.Module):
    """SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        size, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(size, inner, bias=bias)
        self.up_proj = nn.Linear(size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, size, bias=bias)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor | None],
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.self_attn(self.input_layernorm(x), rotary, mask, is_causal, cache, need_weights)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), weights


class LlamaDecoder(LayerStack):
    """Embedding, layers and final norm; also stands alone inside Video-LLaVA."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.rotary = Rotary(config.head_dim, config.rope_theta, config.max_position_embeddings, config.rope_scaling)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(LlamaLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        init_normal(self, config.initializer_range)

    def forward(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        cache: KVCache | None = None,
        need_weights: bool = False,
        keep_states: bool = False,
    ) -> StackOutput:
        """Run embedded tokens [B, T, D] (see `CausalLM.decode`)."""
        x, states, attentions = inputs_embeds, [], []
        rotary = self.rotary.turn(position_ids.to(x.device), x.dtype)
        for layer in self.layers:
            if keep_states:
                states.append(x)
            x, weights = self.run_layer(layer, x, rotary, mask, is_causal, cache, need_weights)
            if need_weights:
                attentions.append(weights)
        x = self.norm(x)
        return StackOutput(x, (*states, x) if keep_states else None, tuple(attentions) if need_weights else None)


class LlamaLanguageModel(CausalLM):
    """LLaMA with its own head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LlamaDecoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        init_normal(self.lm_head, config.initializer_range)
        self.tie_weights()

    def tied_weights(self) -> dict[str, str]:
        """Name of each duplicate -> name of the parameter that it is."""
        return {"lm_head.weight": "model.embed_tokens.weight"} if self.config.tie_word_embeddings else {}

    def tie_weights(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed_tokens

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.model.embed_tokens = module  # type: ignore[assignment]

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
        return self.model(inputs_embeds, position_ids, mask, is_causal, cache, need_weights, keep_states)
