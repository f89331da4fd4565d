"""Chooses frames by looking: `scene` takes those that differ most, `best` those that a function scores highest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from onlooker.media.sampling import Stretch, spread

Score = Callable[[list[np.ndarray]], Sequence[float]]
_SIDE = 24  # thumbnails are _SIDE x _SIDE: an object of a few percent of the picture still fills some cells
_BATCH = 16
_BIN_SECONDS = 1.0
_NEIGHBOURS = 30  # bins on each side that say how busy is usual there


def scene(stretch: Stretch, wanted: int) -> list[int]:
    """Frames of which each is as unlike those before it as can be, in order of time.

    Candidates are key frames (encoders put one where a shot begins), the seconds in which the file spends
    unusually many bytes on change, and some at even distances. Thumbnails of them are compared: the most typical frame
    is taken first, then always the one that is farthest from all taken (Gonzalez 1985, farthest-first traversal).
    """
    if stretch.count <= wanted:
        return list(range(stretch.first, stretch.last))
    numbers = _candidates(stretch, wanted)
    views = [_thumbnail(picture) for _, picture in stretch.clip.read(numbers)]
    chosen = _farthest_first(np.stack(views), min(wanted, len(numbers)))
    return sorted(numbers[i] for i in chosen)


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


def _candidates(stretch: Stretch, wanted: int) -> list[int]:
    """Frames worth looking at, at most `max_candidates`."""
    clip = stretch.clip
    limit = max(clip.limits.max_candidates or stretch.count, wanted)
    busy = _busy_frames(stretch, 4 * wanted)
    keys = clip.keys[(clip.keys >= stretch.first) & (clip.keys < stretch.last)].tolist()
    # Where every frame is a key frame, their places say nothing, and even steps are as good and cheaper.
    even = 4 * wanted if busy and len(keys) < stretch.count // 2 else limit
    keys = keys if len(keys) < stretch.count // 2 else []
    room = max(0, limit - len(busy) - min(even, stretch.count))
    keys = [keys[i] for i in spread(len(keys), min(room, len(keys)))] if keys and room else []
    steps = [stretch.first + i for i in spread(stretch.count, min(even, stretch.count, limit))]
    return sorted({*busy, *keys, *steps})


def _busy_frames(stretch: Stretch, most: int) -> list[int]:
    """The middle frames of those seconds whose frames take more bytes than is usual around them."""
    clip = stretch.clip
    if clip.sizes is None or clip.times is None:
        return []
    times = clip.times[stretch.first : stretch.last]
    sizes = clip.sizes[stretch.first : stretch.last].astype(np.float64)
    is_key = np.zeros(stretch.count, bool)
    keys = clip.keys[(clip.keys >= stretch.first) & (clip.keys < stretch.last)] - stretch.first
    is_key[keys] = True
    if is_key.all():
        return []
    sizes[is_key] = np.median(sizes[~is_key])  # a key frame is large whatever it shows
    bins = ((times - times[0]) / _BIN_SECONDS).astype(np.int64)
    filled, first, frames = np.unique(bins, return_index=True, return_counts=True)
    if len(filled) < 2:
        return []
    activity = np.add.reduceat(sizes, first) / frames
    usual = np.array([np.median(activity[max(0, i - _NEIGHBOURS) : i + _NEIGHBOURS + 1]) for i in range(len(filled))])
    order = np.argsort(-activity / np.maximum(usual, 1.0), kind="stable")[:most]
    return (stretch.first + first[order] + frames[order] // 2).tolist()


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image, np.float32).ravel()


def _farthest_first(views: np.ndarray, wanted: int) -> list[int]:
    """Squared distances: an object that fills a few cells counts for more than light that drifts everywhere."""
    typical = np.median(views, axis=0)
    chosen = [int(np.argmin(((views - typical) ** 2).sum(1)))]
    distance = ((views - views[chosen[0]]) ** 2).sum(1)
    while len(chosen) < wanted:
        farthest = int(np.argmax(distance))
        if farthest in chosen:  # nothing but copies is left
            farthest = next(i for i in range(len(views)) if i not in chosen)
        chosen.append(farthest)
        distance = np.minimum(distance, ((views - views[farthest]) ** 2).sum(1))
    return chosen
