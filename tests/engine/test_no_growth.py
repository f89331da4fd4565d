"""Requests leave nothing behind: memory stays where it was, and a cache within its budget, whatever the load."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from onlooker import Onlooker
from onlooker.engine import Engine
from onlooker.models.generation import Prompt
from onlooker.reuse import Cache
from tests.pipeline.conftest import folders, load, picture

__all__ = ["folders", "load"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")

QUESTIONS = ["What is in the picture?", "Is it raining on the table?", "Why?"]
WARM_UP, THREADS, MEDIA = 60, 3, 7
MOST_GROWTH = 6 * 2**20  # bytes; 1,000 requests that kept 10 kB each would be 10 MB


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Watch:
    """The most that a cache holds, looked at all the time from a thread of its own."""

    def __init__(self, cache: Cache) -> None:
        self.most = 0
        self._cache, self._stopped = cache, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stopped.wait(0.0005):
            self.most = max(self.most, self._cache.stats().bytes)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.mark.parametrize(("kind", "count"), [pytest.param("opt", 1000, marks=pytest.mark.slow), ("video-llava", 200)])
def test_requests_leave_nothing_behind(load, kind, count):
    """Every other request goes through the pipeline, from several threads, the others through the engine."""
    model, processor = load(kind).model, load(kind).processor
    eyes = Onlooker(model, processor, cache=Cache(0))
    one = Cache(1 << 30)
    Onlooker(model, processor, cache=one).ask(picture(0), QUESTIONS[0], max_new_tokens=2)
    eyes = Onlooker(model, processor, cache=Cache(3 * one.stats().bytes))  # less than half of what is asked about
    engine = Engine(model, max_rows=4, max_cache_bytes=4 << 20)
    embed = model.get_input_embeddings()

    def ask(number: int) -> None:
        eyes.ask(picture(number % MEDIA), QUESTIONS[number % len(QUESTIONS)], max_new_tokens=3)
        assert eyes.cache.stats().bytes <= eyes.cache.memory.budget

    def run(first: int, last: int) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            asked = list(pool.map(ask, range(first, last, 2)))
        for start in range(first, last, 16):
            ids = [torch.full((1, 3 + number % 9), 5) for number in range(start, min(start + 16, last), 2)]
            with torch.no_grad():
                prompts = [Prompt(embed(each), torch.ones_like(each), each) for each in ids]
            requests = [engine.submit(prompt, max_new_tokens=4) for prompt in prompts]
            engine.run()
            assert all(len(request.tokens) <= 4 for request in requests)
        assert len(asked) == len(range(first, last, 2))

    with Watch(eyes.cache) as watch:
        run(0, WARM_UP)
        before, kept = resident(), eyes.cache.stats().entries
        run(WARM_UP, WARM_UP + count)
        after = resident()
    stats = eyes.cache.stats()
    assert 0 < watch.most <= eyes.cache.memory.budget and stats.evicted > 0
    assert stats.entries <= kept + MEDIA
    assert engine.cache_bytes == 0
    assert after - before < MOST_GROWTH, f"{(after - before) / 2**20:.1f} MiB more after {count} requests"
