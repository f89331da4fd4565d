"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) · weight, without mean or bias (Zhang and Sennrich, arXiv:1910.07467).

    The mean square is taken in float32; the result has the dtype of the weight.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self._eps_on_host = torch.tensor(eps, dtype=torch.float32, device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        on_host = x.device.type == "cpu" and x.dtype == torch.float32 == self.weight.dtype
        if on_host and not torch.is_grad_enabled():
            # torch's own is one kernel on a GPU, and on a CPU more passes than these (10 and 6 us for 64 numbers). Each
            # number of Python's costs as much as an operation, so there is none here.
            root = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            root = torch.addcmul(self._eps_on_host, root, root, value=1 / x.shape[-1]).rsqrt_()
            return (x * root).mul_(self.weight)
        if x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(self.weight.dtype) * self.weight
