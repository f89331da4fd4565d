"""Pixel values on their way to a GPU, while it still works on those before."""

from __future__ import annotations

import torch
from torch import Tensor


def pinned(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixel values in memory that a GPU reads by itself; as they are for a CPU.

    That is a copy, so it is made where media are read ahead, and not where the model waits.
    """
    return pixels.pin_memory() if device.type == "cuda" else pixels


def upload(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixel values on the device. From pinned memory the host need not wait until they are there.

    torch gives pinned memory to somebody else only when the copies from it are over.
    """
    return pixels.to(device, non_blocking=pixels.is_pinned())
