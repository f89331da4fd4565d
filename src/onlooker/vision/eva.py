"""The EVA vision transformer of the BLIP families: pixels -> one feature per patch.

Letters: N images, P patches, D hidden, H heads, K head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.nn.attend import attend
from onlooker.nn.initialize import init_normal, without_values
from onlooker.nn.recompute import LayerStack
from onlooker.outputs import FILLED, ModelOutput, output_options
from onlooker.vision.config import Blip2VisionConfig
from onlooker.vision.mlp import VisionMLP


class VisionOutput(ModelOutput):
    """Features of a vision tower: [N, 1 + P, D], the class token [N, D], and what was asked for per layer."""

    last_hidden_state: Tensor = FILLED
    pooler_output: Tensor = FILLED
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class EvaEmbeddings(nn.Module):
    """Patches, a class token in front, and learned positions."""

    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.grid = config.image_size // config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(1, self.grid**2 + 1, config.hidden_size))
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        dtype = self.patch_embedding.weight.dtype
        patches = self.patch_embedding(pixel_values.to(dtype)).flatten(2).transpose(1, 2)  # [N, P, D]
        height, width = pixel_values.shape[-2:]
        positions = self._positions(height, width, interpolate=interpolate_pos_encoding)
        count = patches.shape[1] + 1
        if count > positions.shape[1]:
            raise ValueError(
                f"pictures of {pixel_values.shape[-2]} x {pixel_values.shape[-1]} pixels give {count - 1} patches, and "
                f"this model has positions for {positions.shape[1] - 1}. Resize them to "
                f"{self.grid * self.patch_size} x {self.grid * self.patch_size}, or give interpolate_pos_encoding=True."
            )
        x = torch.cat([self.class_embedding.expand(len(patches), 1, -1).to(dtype), patches], dim=1)
        return x + positions[:, :count].to(dtype)

    def _positions(self, height: int, width: int, interpolate: bool) -> Tensor:
        rows, columns = height // self.patch_size, width // self.patch_size
        if not interpolate or (rows * columns == self.grid**2 and height == width):
            return self.position_embedding
        table = self.position_embedding[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([self.position_embedding[:, :1], table.flatten(2).transpose(1, 2)], dim=1)


class EvaAttention(nn.Module):
    """Self-attention with one fused projection, rows ordered all q, all k, all v."""

    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.attn_implementation = "sdpa"
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.qkv_bias)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each [N, H, 1 + P, K]
        out, weights = attend(
            q,
            k,
            v,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.attn_implementation,
            need_weights=need_weights,
        )
        return self.projection(out), weights


class EvaLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = EvaAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.self_attn(self.layer_norm1(x), need_weights)
        x = x + attended
        return x + self.mlp(self.layer_norm2(x)), weights


class EvaEncoder(LayerStack):
    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EvaLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, x: Tensor, need_weights: bool = False, keep_states: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        states, attentions = [x], []
        for layer in self.layers:
            x, weights = self.run_layer(layer, x, need_weights)
            if keep_states:
                states.append(x)
            if need_weights:
                attentions.append(weights)
        return x, tuple(states) if keep_states else None, tuple(attentions) if need_weights else None


class EvaVisionTransformer(nn.Module):
    """Vision tower of BLIP-2 and InstructBLIP (EVA-CLIP, arXiv:2211.07636)."""

    main_input_name = "pixel_values"

    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.config = config
        with without_values(self):
            self.embeddings = EvaEmbeddings(config)
            self.encoder = EvaEncoder(config)
            self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        init_normal(self, config.initializer_range)
        nn.init.trunc_normal_(self.embeddings.class_embedding, std=config.initializer_range)
        nn.init.trunc_normal_(self.embeddings.position_embedding, std=config.initializer_range)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VisionOutput | tuple:
        """Encode pictures.

        Args:
            pixel_values: [N, 3, h, w], normalised.
            interpolate_pos_encoding: resize the position table to the picture, for sizes other than the trained one.

        Returns:
            VisionOutput; the last of `hidden_states` is before the final norm, `last_hidden_state` after it.

        Raises:
            ValueError: no pictures, a shape other than [N, 3, h, w], or more patches than positions.
        """
        if pixel_values is None:
            raise ValueError("pixel_values is missing: the vision model needs pictures, [N, 3, height, width]")
        if pixel_values.dim() != 4 or pixel_values.shape[1] != 3:
            raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}; wanted [N, 3, height, width]")
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        x = self.embeddings(pixel_values, interpolate_pos_encoding)
        x, states, attentions = self.encoder(x, need_weights, keep_states)
        last = self.post_layernorm(x)
        # The published model normalises the class token twice.
        output = VisionOutput(last, self.post_layernorm(last[:, 0]), states, attentions)
        return output if as_record else output.to_tuple()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embedding
