"""What generate/ sees of a language model: rows of text that grow a token at a time."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Decoding(Protocol):
    """A batch of rows whose prompt has been run, one token a step.

    Letters: B rows, V vocabulary, T positions just run, D hidden.
    """

    #: [B, V] scores of every row's next token
    logits: Tensor
    #: last hidden states of the positions just run: [B, T, D] after the start, [B, 1, D] after a step
    hidden: Tensor
    #: [B] how many positions of `hidden` were real at the start; the rest, behind them, is padding
    lengths: Tensor

    def step(self, token_ids: Tensor) -> Tensor:
        """Write one token [B] to every row; the scores [B, V] of the next one come back."""
        ...

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows: the new row i is the old row rows[i]."""
        ...
