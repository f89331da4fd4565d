"""The projector of Video-LLaVA: two linear layers with an activation between."""

from __future__ import annotations

from torch import Tensor, nn

from onlooker.nn.activations import Activation, activation


class MultiModalProjector(nn.Module):
    """Tower features [..., input_size] -> visual tokens [..., output_size] (LLaVA 1.5, arXiv:2310.03744)."""

    def __init__(self, input_size: int, output_size: int, act: str | Activation, bias: bool) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(input_size, output_size, bias=bias)
        self.act = activation(act)
        self.linear_2 = nn.Linear(output_size, output_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear_1.weight
        return self.linear_2(self.act(self.linear_1(x.to(weight.dtype) if weight.is_floating_point() else x)))
