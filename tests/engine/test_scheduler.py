"""Five hundred requests of all kinds, coming and going at random: each gets what it would get alone."""

from __future__ import annotations

import gc
import random
from dataclasses import dataclass
from typing import Any

import pytest

from onlooker.engine import Engine
from onlooker.engine.request import ENDED
from onlooker.engine.room import Room
from onlooker.nn.cache import CrossCache, KVCache
from tests.engine.tiny_requests import FAMILIES, WAYS, alone, options, prompt, tiny

REQUESTS = {"opt": 168, "t5": 166, "llama": 166}
MAX_ROWS = 8


@dataclass
class Case:
    """One request: what it asks, the step it comes at, and the one it is cancelled at."""

    prompt: Any
    arguments: tuple[str, int, int]  # way, seed, max_new_tokens
    arrives: int
    cancelled: int | None
    request: Any = None


def cases(model: Any, count: int, seed: int) -> list[Case]:
    rng = random.Random(seed)
    found, now = [], 0
    for number in range(count):
        now += rng.choice([0, 0, 0, 1, 1, 2, 12 if rng.random() < 0.1 else 0])  # bursts, and lulls
        media = rng.choice([0, 0, rng.randint(1, 20), 48 if rng.random() < 0.1 else 0])  # a clip now and then
        asked = prompt(model, rng.randint(1, 12), media, seed=number, pads=rng.choice([0, 0, 2]))
        arguments = (rng.choice([*WAYS, "greedy", "sample"]), number, rng.randint(1, 16))
        cancelled = now + rng.randint(0, 12) if rng.random() < 0.12 else None
        found.append(Case(asked, arguments, now, cancelled))
    return found


def caches() -> int:
    """How many there are in this process."""
    gc.collect()
    return sum(type(each) in (KVCache, CrossCache) for each in gc.get_objects())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_request_gets_its_own_answer_in_a_batch_that_stays_full(family):
    model = tiny(family)
    most = int(1.2 * Engine(model).limits.size(Room(MAX_ROWS, 80, 64)))  # one batch, and little to make it anew
    engine = Engine(model, max_rows=MAX_ROWS, max_cache_bytes=most, prefill=24)
    everything = cases(model, REQUESTS[family], seed=11)
    coming, now, shares, before = list(everything), 0, [], caches()
    while coming or not engine.is_idle:
        while coming and coming[0].arrives <= now:
            case = coming.pop(0)
            case.request = engine.submit(case.prompt, **options(*case.arguments))
        here = [case.request for case in everything if case.request is not None]
        leaving = [case.request for case in everything if case.request is not None and case.cancelled == now]
        leaving = [request for request in leaving if request.state not in ENDED]
        for request in leaving:
            request.cancel()
        rows = engine.step()
        assert all(request.state == "cancelled" for request in leaving)
        waiting = sum(request.num_rows for request in here if request.state == "waiting")
        if rows or waiting:
            shares.append(rows / min(rows + waiting, MAX_ROWS))
        assert rows <= MAX_ROWS
        assert engine.cache_bytes <= most
        now += 1
    assert engine.num_rows == engine.num_waiting == engine.cache_bytes == 0 and caches() == before
    assert sum(shares) / len(shares) >= 0.8, sum(shares) / len(shares)
    states = [case.request.state for case in everything]
    assert states.count("finished") > 0.85 * len(states) and states.count("cancelled") > 5
    for case in everything:
        answer = alone(model, case.prompt, *case.arguments)
        if case.request.state == "finished":
            assert case.request.result().tolist() == answer.tolist(), case.arguments
        elif case.request.num_rows == 1:
            new = answer[0, -len(answer[0]) + case.request.task.ids.shape[1] :].tolist()
            assert case.request.tokens == new[: len(case.request.tokens)]
