"""What "equal" means in a parity test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: float32 sums in another order differ by a few ulp a layer; a wrong term shows at 1e-2
TOLERANCE = 1e-5


def assert_close(ours: Tensor, theirs: Tensor, keep: Tensor | None = None, tolerance: float = TOLERANCE) -> None:
    """Equal shapes, and values within `tolerance` of max(1, |largest|); `keep` picks the positions that count."""
    assert ours.shape == theirs.shape, (tuple(ours.shape), tuple(theirs.shape))
    if keep is not None:
        ours, theirs = ours[keep.bool()], theirs[keep.bool()]
    assert torch.isfinite(ours).all()
    difference = (ours.float() - theirs.float()).abs().max().item() if ours.numel() else 0.0
    assert difference <= tolerance * max(1.0, theirs.float().abs().max().item()), difference


def assert_records_close(ours: Any, theirs: Any, names: tuple[str, ...], tolerance: float = TOLERANCE) -> None:
    """Fields of two records, tensors or tuples of tensors; a field that is None must be None in both."""
    for name in names:
        left, right = getattr(ours, name), getattr(theirs, name)
        assert (left is None) == (right is None), name
        if isinstance(right, (tuple, list)):
            assert len(left) == len(right), name
            for one, other in zip(left, right):
                assert_close(one, other, tolerance=tolerance)
        elif right is not None:
            assert_close(left, right, tolerance=tolerance)
