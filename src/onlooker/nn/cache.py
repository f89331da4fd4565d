"""Keys and values of the positions already run, preallocated, with a length per row."""

from __future__ import annotations

import torch
from torch import Tensor

from onlooker.nn.masks import additive, extent
from onlooker.nn.prefix import KVPrefix


class KVCache:
    """The keys and values of every layer of a decoder.

    Rows may be of different length: a row's entries stand at columns 0..length-1, and new positions are written at
    each row's own end. Buffers have room for more rows and columns than are in use; columns grow by doubling when
    `capacity` was too small.

    Args:
        num_layers: layers that will append.
        capacity: positions to make room for at the first append; 0 keeps the first keys as they are.
    """

    def __init__(self, num_layers: int, capacity: int = 0) -> None:
        self.keys: list[Tensor | None] = [None] * num_layers
        self.values: list[Tensor | None] = [None] * num_layers
        self.capacity = capacity
        self.rows = 0  # in use, of those that the buffers have
        self.length = 0  # columns in use: the longest row
        self.row_lengths: Tensor | None = None  # [rows]; None while all rows have `length`
        self._places: dict[tuple[torch.device, int], Tensor] = {}  # of this round

    @classmethod
    def from_prefix(cls, prefix: KVPrefix, rows: int, capacity: int) -> KVCache:
        """`rows` rows that begin with the same positions."""
        columns = max(capacity, prefix.length + 1)  # never the prefix' own tensors: they will be written to
        cache = cls(len(prefix.keys), columns)
        cache.rows, cache.length = rows, prefix.length
        cache.keys[:] = [_roomy(each.expand(rows, -1, -1, -1), rows, columns) for each in prefix.keys]
        cache.values[:] = [_roomy(each.expand(rows, -1, -1, -1), rows, columns) for each in prefix.values]
        return cache

    # -- a round: every layer appends, then the cache advances ----------------------------------------------------

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write [B, H, T, K] behind what is there; all columns in use come back. `advance` ends the round."""
        keys, values = self.keys[layer], self.values[layer]
        count = k.shape[2]
        if keys is None or values is None:
            self.rows = len(k)
            columns = max(self.capacity, count)
            keys, values = self.keys[layer], self.values[layer] = _roomy(k, len(k), columns), _roomy(v, len(v), columns)
            return (k, v) if keys is k else (keys[:, :, :count], values[:, :, :count])
        end = self.length + count
        if end > keys.shape[2]:
            keys, values = _roomy(keys, len(keys), 2 * end), _roomy(values, len(values), 2 * end)
            self.keys[layer], self.values[layer] = keys, values
        if self.row_lengths is not None:
            places, width = self._row_ends(keys, count), k.shape[3]
            keys.view(-1, width).index_copy_(0, places, k.reshape(-1, width))
            values.view(-1, width).index_copy_(0, places, v.reshape(-1, width))
        if len(keys) != self.rows:
            keys, values = keys.narrow(0, 0, self.rows), values.narrow(0, 0, self.rows)
        if self.row_lengths is None:
            keys.narrow(2, self.length, count).copy_(k)
            values.narrow(2, self.length, count).copy_(v)
        return keys.narrow(2, 0, end), values.narrow(2, 0, end)

    def _row_ends(self, keys: Tensor, count: int) -> Tensor:
        """Where the next `count` positions of every row go, in a buffer seen as [rows · H · columns, K]."""
        key = (keys.device, count)
        if key not in self._places:
            assert self.row_lengths is not None  # else all rows end at one column
            _, heads, columns, _ = keys.shape
            ends = self.row_lengths.to(keys.device)[:, None, None] + torch.arange(count, device=keys.device)
            of_head = torch.arange(self.rows * heads, device=keys.device).view(self.rows, heads, 1) * columns
            self._places[key] = (of_head + ends).flatten()
        return self._places[key]

    def advance(self, count: int) -> None:
        """All layers have appended `count` positions."""
        self.length += count
        if self.row_lengths is not None:
            self.row_lengths = self.row_lengths + count
            self._places.clear()

    def set_row_lengths(self, lengths: Tensor, known: tuple[int, int] | None = None) -> None:
        """Say how many of the columns are real in each row; the rest will be written over.

        Args:
            known: the shortest and the longest, where the host need not ask for them.
        """
        shortest, self.length = known or extent(lengths)
        self.row_lengths = None if shortest == self.length else lengths.clone()
        self._places.clear()

    def lengths(self, device: torch.device) -> Tensor:
        """[rows] positions of every row."""
        if self.row_lengths is None:
            return torch.full((self.rows,), self.length, device=device)
        return self.row_lengths.to(device)

    def step_mask(self, dtype: torch.dtype, device: torch.device, count: int = 1) -> Tensor | None:
        """What `count` more positions of every row may see, to add: [rows or 1, 1, count, length + count].

        None when one position may see all.
        """
        if self.row_lengths is None and count == 1:
            return None
        columns = torch.arange(self.length + count, device=device)
        ends = columns[-count:] if self.row_lengths is None else self.lengths(device)[:, None] + columns[:count]
        return additive((columns <= ends[..., None]).view(-1, 1, count, len(columns)), dtype)

    # -- rows ------------------------------------------------------------------------------------------------------

    def select(self, rows: Tensor) -> None:
        """Keep, repeat or reorder rows: the new row i is the old row rows[i]. Rows that stay are not touched."""
        fits = len(rows) <= self.buffer_rows
        moved = torch.arange(len(rows), device=rows.device)
        if fits and rows.device.type == "cpu":  # elsewhere a look at the rows would wait for the device
            moved = (rows != moved).nonzero()[:, 0]
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                if buffer is None or not len(moved):
                    continue
                used = buffer[:, :, : self.length].index_select(0, rows[moved].to(buffer.device))
                if fits:
                    buffer[:, :, : self.length].index_copy_(0, moved.to(buffer.device), used)
                else:
                    buffers[layer] = _roomy(used, len(rows), buffer.shape[2])
        self.rows = len(rows)
        if self.row_lengths is None or not len(rows):
            return
        lengths = self.row_lengths[rows.to(self.row_lengths.device)]
        if rows.device.type == "cpu":
            self.set_row_lengths(lengths)
        else:  # a look at the lengths would wait for the device: as many columns as before count as in use
            self.row_lengths = lengths
            self._places.clear()

    def join(self, other: KVCache) -> None:
        """Take over the rows of another cache, behind those here. Only they are copied while there is room."""
        rows, length = self.rows + other.rows, max(self.length, other.length)
        self.make_room(rows, length)
        lengths = None
        if self.length != other.length or self.row_lengths is not None or other.row_lengths is not None:
            device = (self.row_lengths if self.row_lengths is not None else other.keys[0]).device  # type: ignore[union-attr]
            lengths = torch.cat([self.lengths(device), other.lengths(device)])
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, (buffer, more) in enumerate(zip(mine, theirs)):
                assert buffer is not None and more is not None  # both have run their prompts
                buffer[self.rows : rows, :, : other.length] = more[: other.rows, :, : other.length]
                theirs[layer] = None
        self.rows, self.length, other.rows = rows, length, 0
        if lengths is not None:
            self.set_row_lengths(lengths)

    def make_room(self, rows: int, columns: int, exactly: bool = False) -> None:
        """Have buffers of at least (or exactly) so many rows and columns; what is in use is kept."""
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                if buffer is None:
                    continue
                wanted = (rows, columns) if exactly else (max(rows, len(buffer)), max(columns, buffer.shape[2]))
                if wanted != (len(buffer), buffer.shape[2]):
                    used = buffer[: self.rows, :, : self.length]
                    roomy = _roomy(used, *wanted)
                    buffers[layer] = used.clone() if roomy is used else roomy  # the old buffer is let go
        self._places.clear()

    @property
    def buffer_rows(self) -> int:
        return 0 if self.keys[0] is None else len(self.keys[0])

    @property
    def buffer_columns(self) -> int:
        return 0 if self.keys[0] is None else self.keys[0].shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers, in use or not."""
        return sum(each.nbytes for each in (*self.keys, *self.values) if each is not None)

    # -- steps of one shape ----------------------------------------------------------------------------------------

    def whole(self, lengths: Tensor, room: int = 1) -> KVCache:
        """The same buffers with all rows, and all columns but the last `room`, in use: a round has one shape always.

        Args:
            lengths: [buffer rows] on the buffers' device, which each round reads anew. A row that nobody has may be
                of any length that leaves `room`.
        """
        view = KVCache(len(self))
        view.keys, view.values = list(self.keys), list(self.values)
        view.rows, view.length, view.row_lengths = self.buffer_rows, self.buffer_columns - room, lengths
        return view

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the buffers: what `make_room` takes."""
        return self.buffer_rows, self.buffer_columns

    @property
    def parts(self) -> tuple[KVCache, ...]:
        return (self,)

    def move_into(self, other: KVCache) -> None:
        """Go on in the buffers of another cache, of the same shape, which nobody uses any longer.

        What is not in use is cleared: hidden columns weigh nothing, but nothing times an old infinity is no number.
        """
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, (buffer, target) in enumerate(zip(mine, theirs)):
                assert buffer is not None and target is not None  # both have run their prompts
                target.zero_()
                target[: self.rows, :, : self.length] = buffer[: self.rows, :, : self.length]
                mine[layer] = target
        self._places.clear()

    def shares_buffers(self, other: KVCache) -> bool:
        return self.keys[0] is other.keys[0] and self.values[-1] is other.values[-1]

    def copy_lengths(self, target: Tensor) -> None:
        """Write the length of every row into the front of `target`, and 0 behind them, without asking the device."""
        if self.rows < len(target):
            target[self.rows :].zero_()
        if self.row_lengths is None:
            target[: self.rows].fill_(self.length)
        else:
            target[: self.rows].copy_(self.row_lengths)

    # -- reading ---------------------------------------------------------------------------------------------------

    def snapshot(self, row: int, length: int) -> KVPrefix:
        """A copy of the first `length` positions of a row."""
        own = [self[layer] for layer in range(len(self))]
        cut = [(k[row : row + 1, :, :length].clone(), v[row : row + 1, :, :length].clone()) for k, v in own]
        return KVPrefix(tuple(k for k, _ in cut), tuple(v for _, v in cut))

    def get_seq_length(self) -> int:
        return self.length

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            raise IndexError(f"layer {layer} has not run yet")
        return keys[: self.rows, :, : self.length], values[: self.rows, :, : self.length]


class CrossCache:
    """A decoder's own keys and values, and those that its cross-attention reads from the encoder, made once."""

    def __init__(self, num_layers: int, capacity: int = 0) -> None:
        self.self_attention = KVCache(num_layers, capacity)
        self.cross: list[tuple[Tensor, Tensor] | None] = [None] * num_layers
        self.source = KVCache(num_layers)  # the buffers that `cross` shows, after `set_source_lengths`
        self._origins: Tensor | None = None  # [rows] which prompt a row began with

    @property
    def length(self) -> int:
        return self.self_attention.length

    @property
    def nbytes(self) -> int:
        return self.self_attention.nbytes + self.source.nbytes

    def get_seq_length(self) -> int:
        return self.self_attention.length

    def set_source_lengths(self, lengths: Tensor, known: tuple[int, int] | None = None) -> None:
        """The first round is over: say how many of the encoder's positions are real in each row."""
        made = [pair for pair in self.cross if pair is not None]
        self.source.keys[:], self.source.values[:] = [k for k, _ in made], [v for _, v in made]
        self.source.rows = len(lengths)
        self.source.set_row_lengths(lengths, known)
        self._origins = torch.arange(len(lengths))
        self._show()

    def select(self, rows: Tensor) -> None:
        assert self._origins is not None  # nothing is selected before the first round
        self.self_attention.select(rows)
        if rows.device.type == "cpu":  # beams change places within their prompt, and its source stays where it is
            stay = torch.arange(len(rows)) if len(rows) <= len(self._origins) else rows
            origins = self._origins[rows]
            rows = torch.where(origins == self._origins[stay], stay, rows)
            self._origins = origins
        else:  # a look at the rows would wait for the device
            self._origins = torch.arange(len(rows))
        self.source.select(rows)
        self._show()

    def join(self, other: CrossCache) -> None:
        """Take over the rows of another cache, behind those here."""
        assert self._origins is not None and other._origins is not None
        self.self_attention.join(other.self_attention)
        self.source.join(other.source)
        fresh = int(self._origins.max()) + 1 if len(self._origins) else 0
        self._origins = torch.cat([self._origins, other._origins + fresh])
        self._show()

    def make_room(self, rows: int, columns: int, source_columns: int, exactly: bool = False) -> None:
        self.self_attention.make_room(rows, columns, exactly)
        self.source.make_room(rows, source_columns, exactly)
        self._show()

    def whole(self, lengths: Tensor, source_lengths: Tensor) -> CrossCache:
        """See `KVCache.whole`; nothing is written to the source."""
        view = CrossCache(len(self.cross))
        view.self_attention = self.self_attention.whole(lengths)
        view.source = self.source.whole(source_lengths, room=0)
        view._show()
        return view

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns and columns of the source: what `make_room` takes."""
        return *self.self_attention.shape, self.source.buffer_columns

    @property
    def parts(self) -> tuple[KVCache, ...]:
        return self.self_attention, self.source

    def move_into(self, other: CrossCache) -> None:
        """See `KVCache.move_into`."""
        self.self_attention.move_into(other.self_attention)
        self.source.move_into(other.source)
        self._show()

    def _show(self) -> None:
        self.cross[:] = [self.source[layer] for layer in range(len(self.source))]


def _roomy(x: Tensor, rows: int, columns: int) -> Tensor:
    """x [B, H, T, K] at the start of a buffer of so many rows and columns; x itself when there is nothing to add."""
    if (rows, columns) == (len(x), x.shape[2]):
        return x
    buffer = x.new_empty(rows, x.shape[1], columns, x.shape[3])
    buffer[: len(x), :, : x.shape[2]] = x
    buffer[: len(x), :, x.shape[2] :] = 0  # only what is not written over: a long prefix is most of its buffer
    buffer[len(x) :] = 0
    return buffer
