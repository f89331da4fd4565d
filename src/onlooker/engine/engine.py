"""The engine: requests wait, run their prompts, join the batch, write a token a step, and leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from onlooker.engine.prefill import LongPrompt, group, run_prompts
from onlooker.engine.request import ENDED, Request
from onlooker.engine.room import Limits, Room
from onlooker.engine.rows import Rows
from onlooker.generate.config import GenerationConfig
from onlooker.language.choose import cache_shape
from onlooker.models.generation import Generation, Prompt

PATIENCE = 16  # later requests that may be let in before one that does not fit yet


class Engine:
    """Answers many prompts with one batch, which requests join and leave between steps.

    Every request has its own options, filters, random numbers and end, and its ids are those that generate() gives
    for it alone. `submit` and `Request.cancel` may be called from any thread, the rest from one.

    Args:
        model: with a language model that this package writes (OPT, LLaMA, T5).
        max_rows: rows of a step; a beam, and each of several answers, is one.
        max_cache_bytes: of keys and values, also while buffers grow; None does not limit them.
        prefill: positions of prompts that are run between two steps. A longer prompt is run in parts of so many,
            between steps of the others.

    Raises:
        ValueError: a language model of another library.
    """

    def __init__(self, model: Any, max_rows: int = 32, max_cache_bytes: int | None = None, prefill: int = 2048) -> None:
        if max_rows < 1 or prefill < 1:
            raise ValueError(f"max_rows is {max_rows} and prefill is {prefill}; both must be at least 1")
        self._model: Generation = model
        language_model = model._language_model()
        if not hasattr(language_model, "begin"):
            raise ValueError(
                f"{type(language_model).__name__} keeps a cache of another library, whose rows cannot join and leave; "
                f"call generate() instead"
            )
        config = model.config.get_text_config()
        weight = language_model.get_input_embeddings().weight
        layers, position_bytes, source_bytes = cache_shape(config, weight.dtype.itemsize)
        self.limits = Limits(max_rows, max_cache_bytes, position_bytes, source_bytes, layers)
        self._most_positions = config.max_position_embeddings if config.model_type == "opt" else None
        self._prefill = prefill
        self._waiting: deque[Request] = deque()
        self._rows = Rows(self.limits)
        self._long: LongPrompt | None = None

    # -- requests --------------------------------------------------------------------------------------------------

    def submit(self, prompt: Prompt, generation_config: GenerationConfig | None = None, **options: Any) -> Request:
        """Let a prompt wait for its turn.

        Args:
            prompt: one row.
            options: as generate() takes them: fields of GenerationConfig, generator, streamer, logits_processor ...

        Raises:
            ValueError: options that do not fit, or a request that could not run even if it were alone.
        """
        request = Request(self._model.prepare(prompt, generation_config, options))
        limits, room = self.limits, request.room
        if room.rows > limits.max_rows:
            raise ValueError(f"the request needs {room.rows} rows, and the engine has max_rows {limits.max_rows}")
        if limits.grown(Room(), room, self._arriving([request])) is None:
            raise ValueError(
                f"{room.rows} rows of {room.columns} positions need {limits.size(room)} bytes, which must fit into "
                f"max_cache_bytes {limits.max_bytes} with what they are made of: ask for fewer new tokens or beams"
            )
        if self._most_positions is not None and room.columns > self._most_positions:
            raise ValueError(
                f"the prompt and the answer take {room.columns} positions, and the language model has "
                f"{self._most_positions}; use fewer frames, a shorter text or fewer new tokens"
            )
        self._waiting.append(request)
        return request

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not (self._waiting or self._rows.count or self._long)

    @property
    def num_rows(self) -> int:
        """Rows that will be stepped."""
        return self._rows.count

    @property
    def num_waiting(self) -> int:
        """Requests that have not joined."""
        return len(self._waiting) + (self._long is not None)

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values that are held now."""
        return self._rows.nbytes + (0 if self._long is None else self._long.nbytes)

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Step until nothing is left to do."""
        while not self.is_idle:
            self.step()

    def stream(self, request: Request) -> Iterator[int]:
        """Ids of one request's answer as they are written; the others go on with it.

        Of beams and of several answers the ids of the first come at the end.
        """
        given = 0
        while True:
            ended = request.state in ENDED
            yield from request.tokens[given:]
            given = len(request.tokens)
            if ended:
                return
            self.step()

    @torch.no_grad()
    def step(self) -> int:
        """Let requests in, then write one token to every row; gives the number of those rows."""
        try:
            self._let_out()
            self._let_in()
            count = self._rows.count
            if count:
                self._write()
            return count
        except BaseException as error:
            self._fail(error)
            raise

    def _let_out(self) -> None:
        """Cancelled requests go, wherever they are."""
        for request in [each for each in list(self._waiting) if each.is_cancelled]:  # others may submit meanwhile
            self._waiting.remove(request)
            request.stop()
        if self._long is not None and self._long.request.is_cancelled:
            self._long.request.stop()
            self._long = None
        cancelled = [request for request in self._rows.places if request.is_cancelled]
        for request in cancelled:
            request.stop()
        if cancelled:
            self._rows.arrange()

    def _let_in(self) -> None:
        long = self._long
        if long is not None and long.run() and (room := self._room_with([])) is not None:
            self._long = None
            self._join(long.decoding, [long.request], room)
        taken: list[Request] = []
        blocked: list[Request] = []
        budget = self._prefill
        for request in list(self._waiting):
            rows = self._rows.count + sum(each.num_rows for each in taken)
            if rows >= self.limits.max_rows or budget <= 0 or len(blocked) == PATIENCE:
                break
            is_long = LongPrompt.fits(request, self._prefill)
            room = self._room_with(taken, request) if is_long else self._room_with([*taken, request])
            if (is_long and self._long is not None) or room is None:
                blocked.append(request)
                if request.passed >= PATIENCE:
                    break
                continue
            for each in blocked:
                each.passed += 1
            self._waiting.remove(request)
            if is_long:
                self._long = LongPrompt(request, self._prefill)
            else:
                taken.append(request)
                budget -= max(request.positions, request.room.source)
        room = self._room_with(taken) if taken else None
        for requests in group(taken):
            self._join(run_prompts(requests), requests, room)

    def _room_with(self, newcomers: list[Request], long: Request | None = None) -> Room | None:
        """The room to make for requests beside those that run, and a long one; None when there is none.

        Args:
            long: one that is to become the long one; its cache is there while those of the others arrive.
        """
        room = self._rows.needed()
        for request in [*newcomers, *([self._long.request] if self._long else []), *([long] if long else [])]:
            room = room.beside(request.room)
        if room.rows > self.limits.max_rows:
            return None
        arriving = self._arriving(newcomers) + (self._long.nbytes if self._long else 0)
        if long is not None:
            arriving += self.limits.size(Room(1, long.positions))
        return self.limits.grown(self._rows.room, room, arriving)

    def _arriving(self, requests: list[Request]) -> int:
        """Bytes of the caches that prompts are run in, one group after the other."""
        rooms = [
            Room(sum(request.num_rows for request in each), each[-1].positions, each[-1].room.source)
            for each in group(requests)  # the last of a group is the longest
        ]
        return max(map(self.limits.size, rooms), default=0)

    def _join(self, decoding: Any, requests: list[Request], room: Room | None) -> None:
        """Choose the first tokens behind prompts that have been run, and take in the rows that go on."""
        assert room is not None  # they were let in because there is room
        rows: list[int] = []
        for row, request in enumerate(requests):
            request.start(decoding.logits[row : row + 1])
            if request.state == "running":
                rows += [row] * request.num_rows
        if not rows:
            return
        if rows != list(range(len(decoding.logits))):
            decoding.select(torch.tensor(rows))
        self._rows.join(decoding, [request for request in requests if request.state == "running"], room)

    def _write(self) -> None:
        logits = self._rows.step()
        best: list[int] | None = None
        for request, places in self._rows.places.items():
            if request.takes_best:
                if best is None:
                    best = logits.argmax(-1).tolist()
                request.take(best[places[0]])
            else:
                request.choose(logits[places[0] : places[0] + 1] if len(places) == 1 else logits[places])
        self._rows.arrange()

    def _fail(self, error: BaseException) -> None:
        """The batch is lost, and whoever waits for an answer is told so."""
        requests = [*self._rows.places, *([self._long.request] if self._long else [])]
        self._rows, self._long = Rows(self.limits), None
        while self._waiting:
            requests.append(self._waiting.popleft())
        for request in requests:
            if request.state not in ENDED:
                request.fail(error)
