"""Rows of all processes, with their gradients, so that n processes learn what one with n times the batch would."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def processes() -> tuple[int, int]:
    """Rank of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_rows(x: Tensor) -> Tensor:
    """[B, ...] of every process -> [N, ...] in order of rank; B must be the same everywhere.

    The backward pass sums over the processes, and data parallelism then averages: together exactly the gradient of the
    mean loss. (LAVIS cuts the gradient to other processes' rows.)
    """
    if processes()[1] == 1:
        return x
    if not x.requires_grad:
        parts = [torch.empty_like(x) for _ in range(processes()[1])]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)
    return torch.cat(_GatherWithGradient.apply(x))


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        total = torch.stack(gradients)
        dist.all_reduce(total)
        return total[dist.get_rank()]


def gather_text(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and masks [B, T] of every process, padded on the right to the longest anywhere."""
    if processes()[1] == 1:
        return ids, mask
    longest = torch.tensor(ids.shape[1], device=ids.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    missing = int(longest) - ids.shape[1]
    return gather_rows(F.pad(ids, (0, missing))), gather_rows(F.pad(mask, (0, missing)))
