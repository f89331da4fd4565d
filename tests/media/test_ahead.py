"""Working ahead: everything comes, in order, a bounded number too early, and nothing is left running."""

from __future__ import annotations

import threading
import time
import weakref

import pytest

from onlooker.media.ahead import ahead


class Thing:
    pass


def test_everything_comes_in_order_and_only_so_much_too_early():
    made = []

    def work():
        for number in range(20):
            made.append(number)
            yield number

    taken = []
    for number in ahead(work(), most=2):
        time.sleep(0.002)
        assert len(made) - len(taken) <= 3  # this one and two that wait
        taken.append(number)
    assert taken == list(range(20))


def test_the_next_one_is_made_while_this_one_is_used():
    second = threading.Event()

    def work():
        yield 1
        second.set()
        yield 2

    things = ahead(work())
    assert next(things) == 1 and second.wait(5)
    assert list(things) == [2]


def test_an_error_comes_in_the_place_of_its_thing():
    def work():
        yield 1
        raise ValueError("the second one is broken")

    things = ahead(work())
    assert next(things) == 1
    with pytest.raises(ValueError, match="the second one is broken"):
        next(things)
    assert threading.active_count() == 1 or not any(t.name == "onlooker-ahead" for t in threading.enumerate())


def test_whoever_stops_early_leaves_no_thread_and_no_open_source():
    closed = []

    def work():
        try:
            while True:
                yield Thing()
        finally:
            closed.append(threading.current_thread().name)

    things = ahead(work(), most=3)
    next(things)
    things.close()
    assert closed == ["onlooker-ahead"]
    assert not any(thread.name == "onlooker-ahead" for thread in threading.enumerate())


def test_things_that_were_used_are_let_go():
    alive = weakref.WeakSet()

    def work():
        for _ in range(30):
            thing = Thing()
            alive.add(thing)
            yield thing
            del thing

    for _ in ahead(work()):
        assert len(alive) <= 3  # this one, one that waits, and the last one's name
