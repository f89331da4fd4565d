"""What generate/ and engine/ see of a language model: rows of text that grow a token at a time."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from onlooker.nn.prefix import Prefix


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


class CachedDecoding(Decoding, Protocol):
    """Rows whose cache can be continued, shared, joined and cut: the language models written here, with a cache."""

    def run(self, token_ids: Tensor, owners: Tensor | None = None) -> Tensor:
        """Scores [B, T, V] after every one of the tokens [B, T], without writing them: see `keep`.

        Args:
            owners: [T] for tokens that are several continuations of one row side by side: each token sees the row and
                those before it that have its owner, and stands behind them. Nothing of it can be kept.
        """
        ...

    def keep(self, count: int) -> None:
        """Write the first `count` tokens of the last `run` to every row."""
        ...

    def join(self, other: CachedDecoding) -> None:
        """Take over the rows of another decoding of the same model, behind those here. The other is empty then."""
        ...

    def make_room(self, rows: int, columns: int, source_columns: int = 0, exactly: bool = False) -> None:
        """Have buffers of at least (or exactly) so many rows and positions (of the decoder, and of the source)."""
        ...

    def snapshot(self, row: int = 0, length: int | None = None) -> Prefix:
        """A copy of what a row has run, to begin other decodings with.

        Args:
            length: only the first positions of a decoder-only row.
        """
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of the cache, in use or not."""
        ...
