"""Chooses frames by looking: `scene` takes those that differ most, `best` those that a function scores highest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from onlooker.media.sampling import Stretch, spread

Score = Callable[[list[np.ndarray]], Sequence[float]]
_SIDE = 24  # thumbnails are _SIDE x _SIDE: an object of a few percent of the picture still fills some cells
_BATCH = 16
_STEPS = (1, 2, 4)  # in candidates: how far before and after something that passes is looked for
_NEIGHBOURS = 8  # seconds on each side that say how many bytes are usual there
_CLEARLY = 1.3  # times as many


def scene(stretch: Stretch, wanted: int) -> list[int]:
    """Frames that show what happens, in order of time.

    Three kinds of evidence share the places. Up to a quarter goes to the seconds on which the file spends far more
    bytes than around them: something moves there. Up to three eighths go to thumbnails that differ from what was
    before and from what comes after, while these two are alike: something came and went. The others go, one after the
    other, to the candidate that is farthest from all taken (Gonzalez 1985, farthest-first traversal): unlike views.
    """
    if stretch.count <= wanted:
        return list(range(stretch.first, stretch.last))
    most = min(max(stretch.clip.limits.max_candidates or stretch.count, wanted), stretch.count)
    busy = _busy_frames(stretch, wanted // 4)
    numbers = sorted({*busy, *(stretch.first + i for i in spread(stretch.count, most - len(busy)))})
    views = np.stack([_thumbnail(picture) for _, picture in stretch.clip.read(numbers)])
    chosen = [numbers.index(number) for number in busy]
    chosen += _passing(views, 3 * wanted // 8, apart_from=chosen)
    return sorted(numbers[i] for i in _farthest_first(views, chosen, wanted))


def best(stretch: Stretch, wanted: int, score: Score, prepare: Callable[[np.ndarray], np.ndarray]) -> list[int]:
    """The `wanted` candidates with the highest scores, in order of time.

    Args:
        score: list of pictures -> one number each; called with up to 16 at a time, spread evenly over the stretch.
        prepare: applied to each picture before `score` sees it.

    Raises:
        ValueError: `score` gives another number of scores, or one that is not a finite number.
    """
    limit = stretch.clip.limits.max_candidates or stretch.count
    numbers = [stretch.first + i for i in spread(stretch.count, min(stretch.count, max(limit, wanted)))]
    scores: list[float] = []
    batch: list[np.ndarray] = []
    for position, (_, picture) in enumerate(stretch.clip.read(numbers)):
        batch.append(prepare(picture))
        if len(batch) == _BATCH or position == len(numbers) - 1:
            given = [float(value) for value in score(batch)]
            if len(given) != len(batch) or not np.isfinite(given).all():
                raise ValueError(f"score gave {given} for {len(batch)} frames; wanted one finite number for each")
            scores += given
            batch = []
    order = sorted(range(len(numbers)), key=lambda i: (-scores[i], i))
    return sorted(numbers[i] for i in order[:wanted])


def _busy_frames(stretch: Stretch, most: int) -> list[int]:
    """The middle frames of those stretches of 3 seconds that take clearly more bytes than is usual around them."""
    clip = stretch.clip
    if clip.sizes is None or clip.times is None:
        return []
    times = clip.times[stretch.first : stretch.last]
    sizes = clip.sizes[stretch.first : stretch.last].astype(np.float64)
    is_key = np.zeros(stretch.count, bool)
    is_key[clip.keys[(clip.keys >= stretch.first) & (clip.keys < stretch.last)] - stretch.first] = True
    if is_key.all():
        return []
    sizes[is_key] = np.median(sizes[~is_key])  # a key frame is large whatever it shows
    filled, first, frames = np.unique((times - times[0]).astype(np.int64), return_index=True, return_counts=True)
    activity = np.add.reduceat(sizes, first) / frames  # [seconds]
    usual = [np.median(activity[max(0, i - _NEIGHBOURS) : i + _NEIGHBOURS + 1]) for i in range(len(filled))]
    padded = np.pad(activity / np.maximum(usual, 1.0), 1, constant_values=1.0)
    unusual = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    chosen: list[int] = []
    for i in np.argsort(-unusual, kind="stable").tolist():
        if len(chosen) == most or unusual[i] < _CLEARLY:
            break
        if all(abs(filled[i] - filled[other]) > 3 for other in chosen):
            chosen.append(i)
    return [stretch.first + int(first[i] + frames[i] // 2) for i in chosen]


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image, np.float32).ravel()


def _passing(views: np.ndarray, most: int, apart_from: list[int]) -> list[int]:
    """Positions of candidates that differ from those around them more than these do from each other, best first."""
    count = len(views)
    strength = np.zeros(count)
    for step in _STEPS:
        here = np.arange(step, count - step)
        if not len(here):
            break
        to_before, to_after = _distance(views[here], views[here - step]), _distance(views[here], views[here + step])
        apart = _distance(views[here - step], views[here + step])
        strength[here] = np.maximum(strength[here], np.minimum(to_before, to_after) - apart)
    chosen: list[int] = []
    for i in np.argsort(-strength, kind="stable").tolist():
        if len(chosen) == most or strength[i] <= 0:
            break
        if all(abs(i - other) > _STEPS[-1] for other in (*chosen, *apart_from)):
            chosen.append(i)
    return chosen


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Euclidean: an object that fills a few cells counts for more than light that drifts everywhere."""
    return np.sqrt(((one - other) ** 2).sum(-1))


def _farthest_first(views: np.ndarray, chosen: list[int], wanted: int) -> list[int]:
    """Add to `chosen` until there are `wanted`; the first of all is the most typical."""
    if not chosen:
        chosen = [int(np.argmin(_distance(views, np.median(views, axis=0))))]
    distance = np.min([_distance(views, views[i]) for i in chosen], axis=0)
    while len(chosen) < wanted:
        distance[chosen] = -1.0  # copies of what is taken come last, but before taking anything twice
        farthest = int(np.argmax(distance))
        chosen = [*chosen, farthest]
        distance = np.minimum(distance, _distance(views, views[farthest]))
    return chosen
