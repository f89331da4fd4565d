"""Works ahead in a thread: the next thing is made while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Made = TypeVar("Made")


class _End:
    """Comes after the last thing, with the error that it ended with."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[Made], most: int = 1) -> Generator[Made, None, None]:
    """Take from an iterable in a thread, at most `most` things before they are asked for.

    Errors come up where the thing would have come. When the iterator is closed the thread ends after the thing that
    it is making, and a generator that it took from is closed there, too.

    Args:
        items: taken from in that one thread only.
        most: things that may wait, beside the one in use.
    """
    made: queue.SimpleQueue[Made | _End] = queue.SimpleQueue()
    room = threading.Semaphore(most)
    stopped = threading.Event()

    def work() -> None:
        source = iter(items)
        try:
            while True:
                room.acquire()
                if stopped.is_set():
                    return
                try:
                    item = next(source)
                except StopIteration:
                    made.put(_End(None))
                    return
                made.put(item)
                del item  # else it would live until the next one is there
        except BaseException as error:  # noqa: BLE001 (handed over to whoever takes)
            made.put(_End(error))
        finally:
            if hasattr(source, "close"):
                source.close()

    thread = threading.Thread(target=work, name="onlooker-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            room.release()
            yield item
            del item
    finally:
        stopped.set()
        room.release()
        thread.join()
