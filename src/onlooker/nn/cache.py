"""Keys and values of the positions already run, preallocated, with a length per row."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """The keys and values of every layer of a decoder.

    Rows may be of different length: a row's entries stand at columns 0..length-1, and a step writes each row at its
    own end. Buffers grow by doubling when `capacity` was too small.

    Args:
        num_layers: layers that will append.
        capacity: positions to make room for at the first append; 0 keeps the first keys as they are.
    """

    def __init__(self, num_layers: int, capacity: int = 0) -> None:
        self.keys: list[Tensor | None] = [None] * num_layers
        self.values: list[Tensor | None] = [None] * num_layers
        self.capacity = capacity
        self.length = 0  # columns in use: the longest row
        self.row_lengths: Tensor | None = None  # [B]; None while all rows have `length`

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, H, T, K] behind what is there; all columns in use come back. `advance` ends the round."""
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            keys, values = self.keys[layer], self.values[layer] = _roomy(k, self.capacity), _roomy(v, self.capacity)
            return (k, v) if keys is k else (keys[:, :, : k.shape[2]], values[:, :, : k.shape[2]])
        end = self.length + k.shape[2]
        if end > keys.shape[2]:
            keys, values = _roomy(keys, 2 * end), _roomy(values, 2 * end)
            self.keys[layer], self.values[layer] = keys, values
        if self.row_lengths is None:
            keys.narrow(2, self.length, k.shape[2]).copy_(k)
            values.narrow(2, self.length, v.shape[2]).copy_(v)
        else:
            rows = torch.arange(len(k), device=k.device)
            columns = self.row_lengths.to(k.device)
            keys[rows, :, columns] = k[:, :, 0]
            values[rows, :, columns] = v[:, :, 0]
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def advance(self, count: int) -> None:
        """All layers have appended `count` positions."""
        self.length += count
        if self.row_lengths is not None:
            self.row_lengths += count

    def set_row_lengths(self, lengths: Tensor) -> None:
        """Say how many of the columns are real in each row; the rest will be written over."""
        self.row_lengths = None if bool((lengths == self.length).all()) else lengths.clone()

    def step_mask(self, dtype: torch.dtype) -> Tensor | None:
        """What one more position of every row may see, as [B, 1, 1, length + 1] to add; None when it is all."""
        if self.row_lengths is None:
            return None
        from onlooker.nn.masks import additive

        columns = torch.arange(self.length + 1, device=self.row_lengths.device)
        return additive((columns <= self.row_lengths[:, None])[:, None, None], dtype)

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows: the new row i is the old row rows[i]."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                if buffer is not None:
                    buffers[layer] = _selected(buffer, rows.to(buffer.device), self.length)
        if self.row_lengths is not None:
            self.row_lengths = self.row_lengths[rows.to(self.row_lengths.device)]

    def get_seq_length(self) -> int:
        return self.length

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            raise IndexError(f"layer {layer} has not run yet")
        return keys[:, :, : self.length], values[:, :, : self.length]


class CrossCache:
    """A decoder's own keys and values, and those that its cross-attention reads from the encoder, made once."""

    def __init__(self, num_layers: int, capacity: int = 0) -> None:
        self.self_attention = KVCache(num_layers, capacity)
        self.cross: list[tuple[Tensor, Tensor] | None] = [None] * num_layers

    @property
    def length(self) -> int:
        return self.self_attention.length

    def get_seq_length(self) -> int:
        return self.self_attention.length

    def select(self, rows: Tensor) -> None:
        self.self_attention.select(rows)
        self.cross = [
            pair and (pair[0][rows.to(pair[0].device)], pair[1][rows.to(pair[1].device)]) for pair in self.cross
        ]


def _roomy(x: Tensor, capacity: int) -> Tensor:
    """x [B, H, T, K] at the start of a buffer of `capacity` columns; x itself when there is nothing to add."""
    if capacity <= x.shape[2]:
        return x
    buffer = x.new_zeros(*x.shape[:2], capacity, x.shape[3])
    buffer[:, :, : x.shape[2]] = x
    return buffer


def _selected(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    used = buffer[:, :, :length].index_select(0, rows)
    if len(rows) == len(buffer):
        buffer[:, :, :length] = used
        return buffer
    return _roomy(used, buffer.shape[2])
