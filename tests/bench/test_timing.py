"""Ways are timed in turns, and ratios are taken round by round."""

from __future__ import annotations

import itertools

import torch

from onlooker.bench.contest import Contest, Side, measure
from onlooker.bench.settings import Settings
from onlooker.bench.timing import in_turns, ratio


def test_ways_take_turns_in_alternating_order():
    done: list[str] = []
    ways = {name: lambda name=name: done.append(name) for name in "ab"}
    samples = in_turns(ways, rounds=3)
    assert "".join(done) == "abbaab"
    assert all(len(each) == 3 for each in samples.values())


def test_seconds_are_those_of_one_call():
    ticks = itertools.count()
    samples = in_turns({"a": lambda: None}, rounds=1, calls=4, clock=lambda: next(ticks))
    assert samples["a"][0].seconds == 1 / 4


def test_a_ratio_is_taken_round_by_round():
    found = ratio([4.0, 9.0, 2.0], [2.0, 3.0, 2.0])
    assert (found.median, found.low, found.high) == (2, 1, 3)


def test_what_goes_before_is_taken_off(monkeypatch):
    now = [0.0]

    def work(seconds):
        def run():
            now[0] += seconds
            return [[1]]

        return run

    monkeypatch.setattr("onlooker.bench.contest.cpu_seconds", lambda: now[0])
    slow, fast = Side(work(11), before=work(5)), Side(work(7), before=work(5))
    (outcome,) = measure(Contest("", {"decode-bf16": (fast, slow)}, torch.bfloat16), Settings(rounds=2))
    assert outcome.ratio == (3, 3, 3) and outcome.seconds == {"onlooker": 2, "transformers": 6}
    assert outcome.is_reached


def test_memory_that_the_work_takes_is_seen():
    size = 64 << 20

    def take():
        return torch.ones(size // 4)[:4].clone()

    samples = in_turns({"much": take, "none": lambda: None}, rounds=2)
    peaks = {name: max(sample.peak for sample in each) for name, each in samples.items()}
    assert peaks["much"] > 0.9 * size and peaks["none"] < 0.2 * size
