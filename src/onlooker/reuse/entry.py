"""`Entry`: tensors and a few words about them, the unit that is kept and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

_OVERHEAD = 512  # bytes, roughly, of the objects around the values


@dataclass(frozen=True, eq=False)
class Entry:
    """What is kept under one name; nobody writes to it.

    Attributes:
        tensors: by name; views keep the whole memory behind them, so give copies of what is small in something large.
        facts: plain words about them.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that the entry keeps alive, what is behind views included."""
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in self.tensors.values()}
        words = sum(len(name) + len(fact) for name, fact in self.facts.items())
        return sum(storage.nbytes() for storage in storages.values()) + words + _OVERHEAD
