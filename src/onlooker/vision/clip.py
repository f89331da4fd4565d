"""The CLIP vision transformer of Video-LLaVA: pixels -> one feature per patch, and, if asked, attention over time.

Letters: N images (B clips x F frames for a tower with time), P patches, D hidden, H heads.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor, nn

from onlooker.nn.attend import attend, split_heads
from onlooker.nn.initialize import init_normal, without_values
from onlooker.nn.recompute import LayerStack
from onlooker.outputs import output_options
from onlooker.vision.config import CLIPVisionConfig
from onlooker.vision.eva import VisionOutput
from onlooker.vision.mlp import VisionMLP


class CLIPEmbeddings(nn.Module):
    """Patches, a class token in front, and learned positions."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, config.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding((config.image_size // config.patch_size) ** 2 + 1, config.hidden_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.shape[-2:] != (self.image_size, self.image_size):
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pictures of {height} x {width} pixels; this tower takes {self.image_size} x {self.image_size}. "
                f"Let the processor resize them."
            )
        weight = self.patch_embedding.weight
        patches = self.patch_embedding(pixel_values.to(weight.dtype)).flatten(2).transpose(1, 2)  # [N, P, D]
        first = self.class_embedding.to(weight.dtype).expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class CLIPAttention(nn.Module):
    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.attn_implementation = "sdpa"
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.q_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def forward(self, x: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        q, k, v = (split_heads(project(x), self.num_heads) for project in (self.q_proj, self.k_proj, self.v_proj))
        out, weights = attend(
            q,
            k,
            v,
            dropout=self.dropout if self.training else 0.0,
            implementation=self.attn_implementation,
            need_weights=need_weights,
        )
        return self.out_proj(out), weights


class CLIPLayer(nn.Module):
    """Pre-norm transformer layer within each picture."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.self_attn = CLIPAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.self_attn(self.layer_norm1(x), need_weights)
        x = x + attended
        return x + self.mlp(self.layer_norm2(x)), weights


class CLIPTimeLayer(CLIPLayer):
    """The same, after every patch has looked at itself in the clip's other frames (LanguageBind, arXiv:2310.01852).

    The time embedding is added to the residual stream itself, in every layer.
    """

    def __init__(self, config: CLIPVisionConfig, num_frames: int) -> None:
        super().__init__(config)
        self.num_frames = num_frames
        self.temporal_embedding = nn.Parameter(torch.empty(1, num_frames, config.hidden_size))
        self.temporal_attn = CLIPAttention(config)
        self.temporal_layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        places = x.shape[1]
        z = x.unflatten(0, (-1, self.num_frames)).transpose(1, 2).flatten(0, 1)  # [B * (1 + P), F, D]
        if self.num_frames > 1:
            z = z + self.temporal_embedding
        z = z + self.temporal_attn(self.temporal_layer_norm1(z))[0]
        x = z.unflatten(0, (-1, places)).transpose(1, 2).flatten(0, 1)  # [B * F, 1 + P, D]
        return super().forward(x, need_weights)


class CLIPEncoder(LayerStack):
    def __init__(self, config: CLIPVisionConfig, time_frames: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            CLIPTimeLayer(config, time_frames) if time_frames else CLIPLayer(config)
            for _ in range(config.num_hidden_layers)
        )


class CLIPVisionTransformer(nn.Module):
    """Everything below the name `vision_model` in published files."""

    def __init__(self, config: CLIPVisionConfig, time_frames: int | None = None) -> None:
        super().__init__()
        with without_values(self):
            self.embeddings = CLIPEmbeddings(config)
            self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.encoder = CLIPEncoder(config, time_frames)
            self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        init_normal(self, config.initializer_range * config.initializer_factor)
        nn.init.normal_(self.embeddings.class_embedding, std=config.hidden_size**-0.5)
        for layer in self.encoder.layers:
            if isinstance(layer, CLIPTimeLayer):
                nn.init.normal_(layer.temporal_embedding, std=config.hidden_size**-0.5)


class CLIPVisionTower(nn.Module):
    """Vision tower of Video-LLaVA.

    Args:
        time_frames: None, or the number of frames that a tower with attention over time was trained with.
    """

    main_input_name = "pixel_values"

    def __init__(self, config: CLIPVisionConfig, time_frames: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.time_frames = time_frames
        self.vision_model = CLIPVisionTransformer(config, time_frames)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> VisionOutput | tuple:
        """Encode pictures [N, 3, h, w]; the pooled output is the normalised class token.

        Raises:
            ValueError: no pictures, or pictures of another size than the tower's.
        """
        need_weights, keep_states, as_record = output_options(
            self.config, output_attentions, output_hidden_states, return_dict
        )
        count = len(self.vision_model.encoder.layers)
        x, states, attentions = self._run(
            pixel_values, count, range(count + 1) if keep_states else (), need_weights=need_weights
        )
        output = VisionOutput(
            x,
            self.vision_model.post_layernorm(x[:, 0]),
            tuple(states.values()) if keep_states else None,
            tuple(attentions) if need_weights else None,
        )
        return output if as_record else output.to_tuple()

    def states(self, pixel_values: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """The hidden states of these layers, each [N, 1 + P, D]; layers that nobody reads are not run.

        Args:
            layers: places in the list of hidden states, the embeddings being 0; negative ones count from its end.

        Raises:
            ValueError: a layer that the tower does not have.
        """
        count = len(self.vision_model.encoder.layers)
        for layer in layers:
            if not -count - 1 <= layer <= count:
                raise ValueError(f"vision_feature_layer {layer} does not exist: this tower has {count} layers")
        wanted = [layer % (count + 1) for layer in layers]
        _, states, _ = self._run(pixel_values, max(wanted), wanted)
        return [states[layer] for layer in wanted]

    def _run(
        self, pixel_values: Tensor | None, count: int, keep: Container[int], need_weights: bool = False
    ) -> tuple[Tensor, dict[int, Tensor], list[Tensor]]:
        """The first `count` layers: what comes out, the hidden states asked for, and the attention weights."""
        if pixel_values is None:
            raise ValueError("pixel_values is missing: the vision model needs pictures, [N, 3, height, width]")
        if self.time_frames and len(pixel_values) % self.time_frames:
            raise ValueError(
                f"{len(pixel_values)} frames; this video tower attends over time and takes clips of "
                f"{self.time_frames} frames each"
            )
        model, attentions = self.vision_model, []
        x = model.pre_layrnorm(model.embeddings(pixel_values))
        states = {0: x} if 0 in keep else {}
        for number, layer in enumerate(list(model.encoder.layers)[:count], start=1):
            x, weights = model.encoder.run_layer(layer, x, need_weights)
            if number in keep:
                states[number] = x
            if weights is not None:
                attentions.append(weights)
        return x, states, attentions

    def get_input_embeddings(self) -> nn.Module:
        return self.vision_model.embeddings.patch_embedding
