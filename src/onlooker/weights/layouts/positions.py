"""Position tables of vision towers for another picture size."""

from __future__ import annotations

from math import isqrt

from torch import Tensor, cat
from torch.nn.functional import interpolate


def grid_side(table: Tensor | tuple[int, ...]) -> int:
    """Patches along one side of the picture that a table [1, 1 + P, D] (or a shape) is made for.

    Raises:
        ValueError: P is no square.
    """
    shape = table if isinstance(table, tuple) else tuple(table.shape)
    patches = shape[-2] - 1
    side = isqrt(max(patches, 0))
    if side * side != patches or not side:
        raise ValueError(f"a position table of shape {shape} has no place for a class token and a square of patches")
    return side


def resize_positions(table: Tensor, side: int) -> Tensor:
    """[1, 1 + P, D] -> [1, 1 + side * side, D], bicubically as LAVIS does; the class token's place stays as it is."""
    old = grid_side(table)
    if old == side:
        return table
    patches = table[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)  # [1, D, h, w]
    patches = interpolate(patches, size=(side, side), mode="bicubic", align_corners=False)
    return cat([table[:, :1], patches.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)
