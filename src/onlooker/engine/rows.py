"""The rows of all running requests, in one decoding: who has which, who comes and who goes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from onlooker.engine.request import Request
from onlooker.engine.room import Limits, Room


class Rows:
    """Rows 0..count-1 of one decoding.

    A row that ends leaves a hole, which the last row fills: one row is copied, however many there are.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places: dict[Request, list[int]] = {}  # in the order in which they came
        self.count = 0
        self.room = Room()  # of the buffers
        self._decoding: Any = None

    @property
    def nbytes(self) -> int:
        return 0 if self._decoding is None else self._decoding.nbytes

    def needed(self) -> Room:
        """What the requests that are here need."""
        room = Room()
        for request in self.places:
            room = room.beside(request.room)
        return room

    def join(self, decoding: Any, requests: list[Request], room: Room) -> None:
        """Take over the rows of a decoding, which are those of the requests in order.

        Args:
            room: to make first; enough for all requests together.
        """
        if self._decoding is None:
            self._decoding = decoding
            self._make(room)
        else:
            self._make(room)
            self._decoding.join(decoding)
        for request in requests:
            self.places[request] = list(range(self.count, self.count + request.num_rows))
            self.count += request.num_rows

    def _make(self, room: Room) -> None:
        if room != self.room:
            self._decoding.make_room(room.rows, room.columns, room.source, exactly=True)
            self.room = room

    def step(self) -> Tensor:
        """Write every request's next tokens; the scores [count, V] behind them come back."""
        tokens = [0] * self.count
        for request, places in self.places.items():
            for place, token in zip(places, request.next):
                tokens[place] = token
        return self._decoding.step(torch.tensor(tokens, device=self._decoding.logits.device))

    def arrange(self) -> None:
        """Let rows go on from where their search wants to, and take out those of requests that have ended."""
        source = list(range(self.count))  # the row that each is to be
        for request, places in self.places.items():
            for place, origin in zip(places, request.order or ()):
                source[place] = places[origin]
            request.order = None
        gone = [request for request in self.places if request.state != "running"]
        holes = {place for request in gone for place in self.places.pop(request)}
        left = self.count - len(holes)
        fills = dict(zip((row for row in range(left, self.count) if row not in holes), sorted(holes)))
        for row, hole in fills.items():
            source[hole] = source[row]
        for places in self.places.values():
            places[:] = [fills.get(place, place) for place in places]
        self.count = left
        if not left:
            self._decoding, self.room = None, Room()
        elif holes or source != list(range(left)):
            self._decoding.select(torch.tensor(source[:left]))
            smaller = self.limits.shrunk(self.room, self.needed()) if holes else None
            if smaller is not None:
                self._make(smaller)
