"""What a finished prompt leaves behind, apart from any batch: kept once, continued as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KVPrefix:
    """Keys and values of the first positions of one row of a decoder-only model.

    They mean something at these positions, behind nothing else, and to the model that made them.

    Args:
        keys, values: one [1, H, length, K] for each layer.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """Positions."""
        return self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in (*self.keys, *self.values))

    def cut(self, length: int) -> KVPrefix:
        """The first `length` positions: a causal model has the same keys for every prompt that begins so.

        The bytes are shared with this one. To hold fewer, take a snapshot of fewer.

        Raises:
            ValueError: there are not so many.
        """
        if not 1 <= length <= self.length:
            raise ValueError(f"a prefix of {self.length} positions was asked for its first {length}")
        return KVPrefix(tuple(k[:, :, :length] for k in self.keys), tuple(v[:, :, :length] for v in self.values))

    def to(self, device: torch.device | str) -> KVPrefix:
        return KVPrefix(tuple(k.to(device) for k in self.keys), tuple(v.to(device) for v in self.values))

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them; `from_tensors` reads them back."""
        named = {f"keys.{layer}": k for layer, k in enumerate(self.keys)}
        return named | {f"values.{layer}": v for layer, v in enumerate(self.values)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KVPrefix:
        layers = range(len(tensors) // 2)
        return cls(tuple(tensors[f"keys.{n}"] for n in layers), tuple(tensors[f"values.{n}"] for n in layers))


@dataclass(frozen=True)
class SourcePrefix:
    """What an encoder made of one whole prompt.

    Args:
        states: [1, S, D], without pads.
    """

    states: Tensor

    @property
    def length(self) -> int:
        """Positions of the encoder."""
        return self.states.shape[1]

    @property
    def nbytes(self) -> int:
        return self.states.nbytes

    def to(self, device: torch.device | str) -> SourcePrefix:
        return SourcePrefix(self.states.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """By name, as a file holds them; `from_tensors` reads them back."""
        return {"states": self.states}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> SourcePrefix:
        return cls(tensors["states"])


Prefix = KVPrefix | SourcePrefix
