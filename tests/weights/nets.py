"""A small language-model-like module, to test loading without the real families."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onlooker.config import Config
from onlooker.pretrained import PreTrainedModel


class NetConfig(Config):
    model_type = "tiny-net"
    config_section = "net_config"
    hidden_size: int = 8
    vocab_size: int = 11
    num_layers: int = 2


class Layer(nn.Module):
    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.attn_implementation = "sdpa"
        self.fc = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.fc(x))


class _Net(nn.Module):
    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config.hidden_size) for _ in range(config.num_layers))
        self.scale = nn.Parameter(torch.ones(1, 1, config.hidden_size))
        self.register_buffer("offset", torch.full((config.hidden_size,), 0.5))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tied_weights(self) -> dict[str, str]:
        return {"lm_head.weight": "embed.weight"} if self.config.tie_word_embeddings else {}

    def tie_weights(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.embed.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) * self.scale + self.offset
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x.to(self.lm_head.weight.dtype))


class Net(PreTrainedModel, _Net):
    config_class = NetConfig
    part_prefixes = ("language_model.",)
    rename = [(r"^body\.", "layers.")]
    _no_split_modules = ("Layer",)

    def keep_in_fp32(self, dtype: torch.dtype) -> tuple[str, ...]:
        return (r"^scale$", r"norm\.") if dtype == torch.float16 else ()


IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def net(**fields: object) -> Net:
    torch.manual_seed(0)
    return Net(NetConfig(**fields)).eval()
