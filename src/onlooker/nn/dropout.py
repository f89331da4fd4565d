"""Dropout as a function: outside training it costs nothing, not even a call of a module."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def drop(x: Tensor, probability: float, training: bool) -> Tensor:
    """x with each value zeroed with `probability` and the rest scaled up; x itself outside training."""
    return F.dropout(x, probability) if training and probability else x
