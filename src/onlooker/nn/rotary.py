"""Rotary positions (RoFormer, arXiv:2104.09864) in the half-rotation layout, and their stretched forms.

Letters: B batch, T positions, H heads, K head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")


def stretches_from(config: Any) -> float:
    """The length beyond which the angles of all positions depend on how long a row is; infinite for most models."""
    scaling = getattr(config, "rope_scaling", None) or {}
    is_dynamic = scaling.get("rope_type", scaling.get("type")) == "dynamic"
    return float(config.max_position_embeddings) if is_dynamic else math.inf


class Rotary:
    """Angles of every position, computed in float32 when they are needed: there is nothing to store in a checkpoint.

    Args:
        head_dim: K, even.
        theta: base of the wavelengths.
        max_positions: trained length.
        scaling: `rope_scaling` of a configuration: rope_type (older: type), factor, and what the type needs.

    Raises:
        ValueError: an unknown rope_type, or a key that it needs is missing.
    """

    def __init__(
        self, head_dim: int, theta: float, max_positions: int, scaling: Mapping[str, Any] | None = None
    ) -> None:
        self.head_dim, self.theta, self.max_positions = head_dim, theta, max_positions
        self.scaling = dict(scaling or {})
        self.type = self.scaling.get("rope_type", self.scaling.get("type", "default"))
        if self.type not in ROPE_TYPES:
            raise ValueError(f"rope_scaling has rope_type {self.type!r}; known are {', '.join(ROPE_TYPES)}")
        if self.type != "default" and "factor" not in self.scaling:
            raise ValueError(f"rope_scaling of type {self.type!r} needs a factor; it has {self.scaling}")
        self.factor = float(self.scaling.get("factor", 1.0))
        self.attention_factor = self._attention_factor()

    def __call__(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine of every position [B, T] -> two of [B, 1, T, K]; pads (-1) count as position 0.

        The first half of the sine is negated, so that `rotate` need not negate half of every query and key.
        """
        position_ids = position_ids.clamp(min=0)
        angles = position_ids[:, None, :, None].float() * self._frequencies(position_ids)  # [B, 1, T, K / 2]
        cos, sin = angles.cos(), angles.sin()
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        if self.attention_factor != 1.0:
            cos, sin = cos * self.attention_factor, sin * self.attention_factor
        return cos.to(dtype), sin.to(dtype)

    def turn(self, position_ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """What `rotate` takes for these positions [B, T].

        One position for all rows on a CPU, where starting operations is what takes time, gives the matrix [K, K] that
        turns by it, and no sine: one product for four operations in every layer.
        """
        cos, sin = self(position_ids, dtype)
        if position_ids.numel() > 1 or cos.device.type != "cpu" or dtype != torch.float32 or torch.is_grad_enabled():
            return cos, sin
        cos, sin = cos.view(-1), sin.view(-1)
        return cos.diag() + sin.diag().roll(self.head_dim // 2, 0), None

    def _frequencies(self, position_ids: Tensor) -> Tensor:
        exponent = torch.arange(0, self.head_dim, 2, device=position_ids.device).float() / self.head_dim
        if self.type == "dynamic":
            longest = position_ids.amax(1) + 1  # of each row by itself, so that it does not depend on the others
            return self._base(longest)[:, None, None, None] ** -exponent  # [B, 1, 1, K / 2]
        frequencies = self.theta**-exponent
        if self.type == "linear":
            return frequencies / self.factor
        if self.type == "llama3":
            return self._by_wavelength(frequencies)
        if self.type == "yarn":
            return self._yarn(frequencies)
        return frequencies

    def _base(self, length: Tensor) -> Tensor:
        """NTK-aware: the base grows with the length, once it is over the trained one. It is not looked at here."""
        stretch = self.factor * length.clamp(min=self.max_positions) / self.max_positions - (self.factor - 1)
        return self.theta * stretch ** (self.head_dim / (self.head_dim - 2))

    def _by_wavelength(self, frequencies: Tensor) -> Tensor:
        """LLaMA 3.1: long waves are stretched, short ones kept, those between blended."""
        low, high = self.scaling["low_freq_factor"], self.scaling["high_freq_factor"]
        turns = self.scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        return frequencies * (smooth + (1 - smooth) / self.factor)

    def _yarn(self, frequencies: Tensor) -> Tensor:
        """YaRN (arXiv:2309.00071): a ramp over the dimensions between turning often and turning seldom."""
        original = self.scaling.get("original_max_position_embeddings") or self.max_positions

        def dimension(turns: float) -> float:
            return self.head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(self.theta))

        low, high = dimension(self.scaling.get("beta_fast") or 32), dimension(self.scaling.get("beta_slow") or 1)
        if self.scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.head_dim - 1)
        index = torch.arange(self.head_dim // 2, device=frequencies.device).float()
        ramp = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
        return frequencies * (1 - ramp + ramp / self.factor)

    def _attention_factor(self) -> float:
        if self.type != "yarn":
            return 1.0
        given = self.scaling.get("attention_factor")
        if given is not None:
            return float(given)
        mscale, all_dim = self.scaling.get("mscale"), self.scaling.get("mscale_all_dim")
        if mscale and all_dim:
            return _mscale(self.factor, mscale) / _mscale(self.factor, all_dim)
        return _mscale(self.factor, 1.0)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def rotate(x: Tensor, cos: Tensor, sin: Tensor | None) -> Tensor:
    """Turn queries or keys [B, H, T, K]: the first half of K pairs with the second. `sin` is signed (see `Rotary`)."""
    if sin is None:
        return (x.reshape(-1, x.shape[-1]) @ cos).view(x.shape)
    return (x * cos).add_(x.roll(x.shape[-1] // 2, -1) * sin)
