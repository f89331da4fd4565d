"""Gives a model more or fewer vocabulary rows, in its token embedding and in its output head."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def padded_size(size: int, multiple: int | None) -> int:
    """Round a vocabulary size up to a multiple.

    Raises:
        ValueError: size or multiple below 1.
    """
    if size < 1 or (multiple is not None and multiple < 1):
        raise ValueError(f"vocabulary size {size} and pad_to_multiple_of {multiple} must be at least 1")
    return size if multiple is None else -(-size // multiple) * multiple


def resize_rows(module: nn.Module, size: int) -> None:
    """Resize the rows of an Embedding or Linear in place; new rows are the mean of the old ones.

    With the mean, a token that was never trained gets an average score, where random rows may win over all others.

    Raises:
        TypeError: neither an Embedding nor a Linear (a quantised head, for instance).
    """
    if not isinstance(module, (nn.Embedding, nn.Linear)) or not module.weight.dtype.is_floating_point:
        raise TypeError(f"the vocabulary of {type(module).__name__} cannot be resized; load without quantisation")
    module.weight = _resized(module.weight, size)
    if isinstance(module, nn.Linear):
        module.out_features = size
        if module.bias is not None:
            module.bias = _resized(module.bias, size)
    else:
        module.num_embeddings = size
        if module.padding_idx is not None and module.padding_idx >= size:
            module.padding_idx = None


def _resized(old: Tensor, size: int) -> nn.Parameter:
    with torch.no_grad():
        rows: Tensor = old[:size].clone()
        if size > len(old):
            mean = old.float().mean(0, keepdim=True).to(old.dtype)
            rows = torch.cat([rows, mean.expand(size - len(old), *old.shape[1:])])
    return nn.Parameter(rows, requires_grad=old.requires_grad)
