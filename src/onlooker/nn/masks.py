"""Attention masks: from the 1 = keep masks that users hand in to what is added to the scores."""

from __future__ import annotations

import torch
from torch import Tensor


def additive(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `keep`, a large negative number elsewhere.

    Half of the smallest finite number: a relative bias added on top must not reach -inf, because a row of pads has
    nothing to look at and would become NaN.
    """
    zero = torch.zeros((), dtype=dtype, device=keep.device)
    return torch.where(keep.bool(), zero, torch.finfo(dtype).min / 2)


def padding_mask(attention_mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """[B, S] or [B, T, S] with 1 = keep -> [B, 1, 1 or T, S] to add; None when nothing is hidden.

    Raises:
        ValueError: another number of dimensions.
    """
    if attention_mask is None or attention_mask.is_meta or bool(attention_mask.all()):
        return None
    if attention_mask.dim() == 2:
        return additive(attention_mask[:, None, None, :], dtype)
    if attention_mask.dim() == 3:
        return additive(attention_mask[:, None], dtype)
    raise ValueError(
        f"an attention mask has shape [batch, keys] or [batch, queries, keys]; "
        f"this one is {tuple(attention_mask.shape)}"
    )


def causal_mask(
    attention_mask: Tensor | None, queries: int, keys: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, bool]:
    """The mask of a decoder whose `queries` are the last of `keys` positions.

    Returns:
        A mask to add, and whether plain causal attention does it (then without a mask, which is much faster).
    """
    padding = padding_mask(attention_mask, dtype)
    if padding is None and (queries == keys or queries == 1):
        return None, queries > 1
    seen = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].bool()
    else:
        seen = seen[None, None]
    return additive(seen, dtype), False


def positions(attention_mask: Tensor) -> Tensor:
    """[B, S] mask -> the position of every attended token in its row; pads get -1."""
    mask = attention_mask.long()
    return mask.cumsum(1) * mask - 1


def is_right_padded(attention_mask: Tensor) -> bool:
    """True when every row's kept positions come first."""
    kept = attention_mask.bool()
    return not bool((kept[:, 1:] & ~kept[:, :-1]).any())


def check_covers(attention_mask: Tensor, x: Tensor) -> None:
    """
    Raises:
        ValueError: the mask [B, T] has another shape than x [B, T, ...], which broadcasting might hide.
    """
    if attention_mask.shape != x.shape[:2]:
        raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}; wanted {tuple(x.shape[:2])}")


def extent(lengths: Tensor) -> tuple[int, int]:
    """The shortest and the longest of [B]; a GPU is waited for once."""
    shortest, longest = torch.stack([lengths.min(), lengths.max()]).tolist()
    return shortest, longest


def compact(x: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move every row's kept positions to its front, in order, and cut what no row needs.

    Rows that start together need no mask in a causal prefill: what is behind a row's end cannot be seen from before.

    Args:
        x: [B, T, ...].
        attention_mask: [B, T], 1 = keep; None keeps all.

    Returns:
        x as [B, longest row, ...] and the lengths [B].

    Raises:
        ValueError: a row keeps nothing, or the mask is of another shape.
    """
    if attention_mask is None:
        return x, torch.full((len(x),), x.shape[1], device=x.device)
    check_covers(attention_mask, x)
    kept = attention_mask.to(x.device).bool()
    lengths = kept.sum(1)
    shortest, longest = extent(lengths)
    if not shortest:
        raise ValueError(f"row {int(lengths.argmin())} of the batch has no attended token: its attention_mask is all 0")
    if shortest == x.shape[1]:
        return x, lengths
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    return x[torch.arange(len(x), device=x.device)[:, None], order], lengths
