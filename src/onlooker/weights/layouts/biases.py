"""The biases of fused query-key-value layers: LAVIS trains none for the keys and stores the other two apart."""

from __future__ import annotations

import torch
from torch import Tensor


def join(q_bias: Tensor, v_bias: Tensor) -> Tensor:
    """[D] and [D] -> the bias [3 * D] of the fused layer, zero for the keys.

    Raises:
        ValueError: sizes differ.
    """
    if q_bias.shape != v_bias.shape or q_bias.dim() != 1:
        raise ValueError(f"query and value biases have shapes {tuple(q_bias.shape)} and {tuple(v_bias.shape)}")
    return torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])


def split(bias: Tensor) -> tuple[Tensor, Tensor]:
    """The bias [3 * D] of a fused layer -> query and value biases [D].

    Raises:
        ValueError: the keys have a bias, which the other layout cannot hold.
    """
    q_bias, k_bias, v_bias = bias.chunk(3)
    if bool(k_bias.any()):
        raise ValueError("the key bias of this layer is not zero; LAVIS has no place for it")
    return q_bias, v_bias
