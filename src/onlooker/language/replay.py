"""Steps of one shape: on a GPU a step is captured once as a CUDA graph, and replayed for every token after that.

A small step takes longer to start, operation by operation, than to run. A graph is started at once, but does again
exactly what it did: the same shapes, the same memory, nothing that the host has to know. So it runs over whole buffers
(`KVCache.whole`) with the rows' lengths on the device, and what it needs is copied in before and out after it.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from onlooker.nn.plain import is_plain

DEVICES = ("cuda",)
PATIENCE = 4  # steps of one shape, over all calls, that run as they come: a capture costs about as much
WARM_UPS = 2  # runs before a capture, in which torch and its libraries make ready what a capture may not
SHARE = 16  # a part in so many of the device's memory is kept between calls, as buffers of captured steps

_logger = logging.getLogger(__name__)
Written = tuple[Tensor, Tensor]  # hidden states [rows, 1, D] and scores [rows, V]


class Writes(Protocol):
    """What a step needs of a decoding."""

    cache: Any  # KVCache or CrossCache
    steps: Steps | None  # of its model; None where nothing can be captured
    captured: Captured | None
    keeps_size: bool  # its buffers were made as large as they shall be

    def write(self, token_ids: Tensor) -> Written:
        """Run one more token of every row; the caller advances the cache."""
        ...

    def over(self, cache: Any) -> Writes:
        """The same decoding over another cache, only to be written with."""
        ...


def write(decoding: Writes, token_ids: Tensor) -> Written:
    """`decoding.write`, by a captured step where there is one or one is worth it."""
    step = None if decoding.steps is None else _step_for(decoding, decoding.steps)
    return decoding.write(token_ids) if step is None else step(decoding.cache, token_ids)


class Captured:
    """A step over the buffers of a decoding, which later ones of the same shape may move into.

    Raises:
        RuntimeError: something in the step cannot be captured.
    """

    def __init__(self, decoding: Writes, key: tuple[Any, ...]) -> None:
        cache: Any = decoding.cache
        device = _device(cache)
        rows = cache.shape[0]
        self.key, self.owner = key, weakref.ref(decoding)
        self._tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self._lengths = [torch.zeros_like(self._tokens) for _ in cache.parts]
        self._copy_lengths(cache)
        self.cache = cache.whole(*self._lengths)
        self._rows = decoding.over(self.cache)  # kept, because a graph does not keep what it reads
        self._replay, (self._hidden, self._logits) = capture(self._write, device)

    def _write(self) -> Written:
        # Each run has a view of its own: places in the buffers are worked out from the lengths, once a round.
        return self._rows.over(self.cache.whole(*self._lengths)).write(self._tokens)

    def __call__(self, cache: Any, token_ids: Tensor) -> Written:
        rows = len(token_ids)
        self._tokens[:rows].copy_(token_ids)
        self._copy_lengths(cache)
        self._replay()
        return self._hidden[:rows].clone(), self._logits[:rows].clone()  # the next replay writes over them

    def _copy_lengths(self, cache: Any) -> None:
        for part, lengths in zip(cache.parts, self._lengths):
            part.copy_lengths(lengths)

    def serves(self, cache: Any) -> bool:
        """Whether the cache is still in the buffers of this step."""
        return all(mine.shares_buffers(theirs) for mine, theirs in zip(self.cache.parts, cache.parts))

    @property
    def nbytes(self) -> int:
        return self.cache.nbytes


def capture(work: Callable[[], Written], device: torch.device) -> tuple[Callable[[], Any], Written]:
    """What does the work again, and where its results are then.

    The work is warmed up on a side stream, as torch asks for; with the same inputs it writes the same things again.
    """
    with torch.cuda.device(device):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # thread_local: media are read ahead in another thread, which may take pinned memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            results = work()
    return graph.replay, results


class Steps:
    """The captured steps of one model with one set of weights, the ones used last at the end.

    A step in use belongs to its decoding. One that does not fit into the share of memory is gone with it.
    """

    def __init__(self, weights: tuple[int, ...]) -> None:
        self.weights = weights
        self.asked: Counter[tuple[Any, ...]] = Counter()
        self.refused: set[tuple[Any, ...]] = set()
        self._kept: list[Captured] = []
        self._lock = threading.Lock()

    def take(self, key: tuple[Any, ...], decoding: Writes) -> Captured | None:
        """A step of this shape whose decoding is gone."""
        with self._lock:
            for step in self._kept:
                if step.key == key and step.owner() is None:
                    step.owner = weakref.ref(decoding)
                    self._kept.remove(step)
                    self._kept.append(step)
                    return step
        return None

    def keep(self, step: Captured, limit: int) -> None:
        with self._lock:
            self._kept.append(step)
            while self._kept and sum(each.nbytes for each in self._kept) > limit:
                self._kept.pop(0)

    def drop(self, step: Captured) -> None:
        with self._lock:
            if step in self._kept:
                self._kept.remove(step)


_STEPS: weakref.WeakKeyDictionary[nn.Module, Steps] = weakref.WeakKeyDictionary()


def steps_of(model: Any) -> Steps | None:
    """Of a model on one GPU with nothing hanging on its calls, which a replay would leave out; else None."""
    weights = list(model.parameters())
    devices = {weight.device for weight in weights}
    if len(devices) != 1 or next(iter(devices)).type not in DEVICES or model.training or not is_plain(model):
        return None
    places = tuple(weight.data_ptr() for weight in weights)
    steps = _STEPS.get(model)
    if steps is None or steps.weights != places:  # a graph reads weights where they were when it was captured
        steps = _STEPS[model] = Steps(places)
    return steps


def _step_for(decoding: Writes, steps: Steps) -> Captured | None:
    cache, step = decoding.cache, decoding.captured
    if step is not None and step.serves(cache):
        return step if cache.parts[0].length < cache.shape[1] else None
    let_go(decoding)
    if torch.is_grad_enabled() or torch.is_autocast_enabled(_device(cache).type):
        return None
    shape = cache.shape if decoding.keeps_size else (cache.shape[0], *map(rounded, cache.shape[1:]))
    key = (*shape, torch.is_inference_mode_enabled())  # tensors made in that mode cannot be written to elsewhere
    if cache.parts[0].length >= shape[1] or key in steps.refused:
        return None
    found = steps.take(key, decoding)
    if found is not None:
        cache.move_into(found.cache)
        decoding.captured = found
        return found
    steps.asked[key] += 1
    return _capture(decoding, steps, key) if steps.asked[key] > PATIENCE else None


def _capture(decoding: Writes, steps: Steps, key: tuple[Any, ...]) -> Captured | None:
    decoding.cache.make_room(*key[:-1])
    try:
        step = Captured(decoding, key)
    except RuntimeError as error:
        steps.refused.add(key)
        _logger.debug("steps of shape %s run operation by operation, for they cannot be captured: %s", key, error)
        return None
    decoding.captured = step
    steps.keep(step, kept_bytes(_device(decoding.cache)))
    return step


def let_go(decoding: Writes) -> None:
    """Forget the captured step of a decoding whose buffers are, or are about to be, made anew."""
    if decoding.captured is not None and decoding.steps is not None:
        decoding.steps.drop(decoding.captured)
    decoding.captured = None


def rounded(columns: int) -> int:
    """Up to a multiple of 64, and to one of four sizes between a power of two and the next: few shapes are captured."""
    step = max(64, 1 << max((columns - 1).bit_length() - 3, 0))
    return -(-columns // step) * step


def kept_bytes(device: torch.device) -> int:
    """What the buffers of captured steps may take between calls."""
    return torch.cuda.get_device_properties(device).total_memory // SHARE


def _device(cache: Any) -> torch.device:
    return cache.parts[0].keys[0].device
