"""The feed-forward block of both vision transformers."""

from __future__ import annotations

from torch import Tensor, nn

from onlooker.nn.activations import activation
from onlooker.vision.config import Blip2VisionConfig, CLIPVisionConfig


class VisionMLP(nn.Module):
    """fc2(act(fc1 x)), on every patch by itself."""

    def __init__(self, config: Blip2VisionConfig | CLIPVisionConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))
