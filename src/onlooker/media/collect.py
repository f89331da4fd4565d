"""Chooses the frames that a call asks for and reads them, once more when a damaged clip turns out to be shorter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onlooker.errors import MediaError
from onlooker.media import sampling as policies
from onlooker.media.clip import Clip, FramesLost
from onlooker.media.frames import Frames
from onlooker.media.picture import resize as scale
from onlooker.media.sampling import Stretch
from onlooker.media.scene import Score, best, scene

SAMPLINGS = ("uniform", "linspace", "time", "fps", "window", "all", "indices", "seconds", "keyframes", "scene", "query")
DEFAULT_NUM_FRAMES = 8

Resize = tuple[int, int] | Callable[[np.ndarray], Any]


class Shrink:
    """As `resize`: a function for pictures of one size, so that a clip of several sizes is treated as without `resize`.

    Args:
        function: [h, w, 3] -> what is kept of a picture.
    """

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self.size: tuple[int, int] | None = None  # (height, width) of the pictures that came last
        self._function = function

    def __call__(self, picture: np.ndarray) -> Any:
        self.size = (picture.shape[0], picture.shape[1])
        return self._function(picture)


@dataclass(frozen=True)
class Wish:
    """The arguments of one call that say which frames are wanted and in what form."""

    num_frames: int | None = None
    sampling: str = "uniform"
    indices: Sequence[int] | None = None
    seconds: Sequence[float] | None = None
    fps: float | None = None
    resize: Resize | None = None
    score: Score | None = None


def check(wish: Wish, start: float | None, end: float | None) -> Wish:
    """Settle what implies what, and refuse what contradicts itself.

    Raises:
        ValueError: says which arguments do not go together.
    """
    implied = {"indices": wish.indices, "seconds": wish.seconds, "fps": wish.fps, "query": wish.score}
    given = [name for name, value in implied.items() if value is not None]
    sampling = wish.sampling
    if sampling not in SAMPLINGS:
        raise ValueError(f"there is no sampling {sampling!r}; give one of {', '.join(SAMPLINGS)}")
    if len(given) > 1 or (given and sampling not in ("uniform", "window", given[0])):
        raise ValueError(f"{' and '.join(given)} and sampling={sampling!r} are different ways of choosing; give one")
    sampling = given[0] if given else sampling
    if sampling == "fps" and not given:
        wish = Wish(**{**vars(wish), "fps": 1.0})
    elif sampling in implied and not given:
        argument = "score, a function from pictures to numbers," if sampling == "query" else sampling
        raise ValueError(f"sampling={sampling!r} needs the argument {argument} as well")
    if sampling == "window" and start is None and end is None:
        raise ValueError("sampling='window' needs start or end, in seconds")
    listed = wish.indices if wish.indices is not None else wish.seconds
    if listed is not None:
        if start is not None or end is not None:
            raise ValueError(f"{sampling} are counted in the whole clip; start and end do not go with them")
        if wish.num_frames not in (None, len(listed)) or not len(listed):
            raise ValueError(f"num_frames={wish.num_frames} does not go with {len(listed)} {sampling}")
    if wish.num_frames is not None and wish.num_frames < 1:
        raise ValueError(f"num_frames {wish.num_frames} is below 1")
    if wish.fps is not None and not wish.fps > 0:
        raise ValueError(f"fps {wish.fps!r} is not above 0")
    return Wish(**{**vars(wish), "sampling": sampling})


def collect(clip: Clip, wish: Wish, start: float | None, end: float | None) -> Frames:
    """Choose frames and read them; when the clip turns out to hold fewer than it says, choose again among those."""
    clip.prepare()
    for _ in range(3):
        notes: list[str] = []
        try:
            stretch = Stretch(clip, start, end)
            numbers = _choose(stretch, wish, notes)
            pixels = _read(clip, numbers, wish.resize, notes)
        except FramesLost:
            clip.repair()
            continue
        asked = (stretch.start, stretch.end) if (start, end) != (None, None) else (None, None)
        texts = list(dict.fromkeys([*clip.notes, *notes]))
        return Frames(pixels, numbers, clip.seconds_of(numbers), clip.fps, clip.name, texts, *asked)
    raise MediaError(f"{clip.name} gives other frames each time it is read")


def _choose(stretch: Stretch, wish: Wish, notes: list[str]) -> list[int]:
    """Frame numbers for one stretch, of the number wanted."""
    clip, wanted = stretch.clip, wish.num_frames or DEFAULT_NUM_FRAMES
    most = clip.limits.max_frames
    if wish.indices is not None:
        return _few_enough(policies.at_indices(clip, wish.indices), most)
    if wish.seconds is not None:
        return _few_enough(policies.at_seconds(clip, wish.seconds), most)
    if wish.fps is not None:
        numbers = policies.at_rate(stretch, wish.fps)
        if wish.num_frames is None or len(numbers) <= wish.num_frames:
            return _few_enough(numbers, most)
        notes.append(f"{clip.name}: {wish.fps:g} frames/s are {len(numbers)} frames; num_frames keeps {wanted} of them")
        return _few_enough([numbers[i] for i in policies.spread(len(numbers), wanted)], most)
    if wish.sampling == "all" and wish.num_frames is None:
        return _few_enough(range(stretch.first, stretch.last), most)
    _few_enough(range(wanted), most)
    if wish.sampling in ("uniform", "window", "all"):
        numbers = policies.uniform(stretch, wanted)
    elif wish.sampling == "linspace":
        numbers = policies.linspace(stretch, wanted)
    elif wish.sampling == "time":
        numbers = policies.by_time(stretch, wanted)
    else:
        found = _look(stretch, wish, wanted)
        numbers = [found[i] for i in policies.spread(len(found), wanted)]
    different = len(set(numbers))
    if different < wanted:
        notes.append(f"{clip.name}: {wanted} frames wanted, {different} found; some are repeated")
    return numbers


def _look(stretch: Stretch, wish: Wish, wanted: int) -> list[int]:
    if wish.sampling == "keyframes":
        return policies.key_frames(stretch)
    if wish.sampling == "scene":
        return scene(stretch, wanted)
    assert wish.score is not None
    shown = None if isinstance(wish.resize, Shrink) else wish.resize  # what shrinks them may not leave pictures
    return best(stretch, wanted, wish.score, lambda picture: _resized(picture, shown))


def _few_enough(numbers: Any, most: int | None) -> list[int]:
    if most is not None and len(numbers) > most:
        raise MediaError(
            f"{len(numbers)} frames are over the limit of {most} for one call; take fewer, go through the clip with "
            "iter_windows, or raise max_frames in limits"
        )
    return list(numbers)


def _read(clip: Clip, numbers: list[int], resize: Resize | None, notes: list[str]) -> np.ndarray:
    """Read each frame once and write it to all its places: one full-size picture is in memory besides the result."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    result: np.ndarray | None = None
    first_size: tuple[int, int] | None = None
    for number, picture in clip.read(sorted(places)):
        if resize is None or isinstance(resize, Shrink):
            first_size = first_size or (picture.shape[0], picture.shape[1])
            picture = _same_size(clip, number, picture, first_size, notes)
        value = np.asarray(_resized(picture, resize))
        if result is None:
            result = np.empty((len(numbers), *value.shape), value.dtype)
        if value.shape != result.shape[1:]:
            raise ValueError(f"resize gave shape {value.shape} after {result.shape[1:]}; all must be alike")
        for place in places[number]:
            result[place] = value
    assert result is not None
    return result


def _resized(picture: np.ndarray, resize: Resize | None) -> Any:
    if resize is None:
        return picture
    if callable(resize):
        return resize(picture)
    return scale(picture, (int(resize[0]), int(resize[1])))


def _same_size(clip: Clip, number: int, picture: np.ndarray, size: tuple[int, int], notes: list[str]) -> np.ndarray:
    """Streams may change their size midway; lists of unlike pictures are more likely a mistake."""
    came = (picture.shape[0], picture.shape[1])
    if came == size:
        return picture
    if not clip.may_change_size:
        raise MediaError(
            f"{clip.name} has frames of different sizes ({size[1]}x{size[0]}, and {came[1]}x{came[0]} at {number}); "
            "make them alike, or give resize=(height, width)"
        )
    note = f"{clip.name} changes its frame size; all frames are scaled to {size[1]}x{size[0]}"
    if note not in notes:
        notes.append(note)
    return scale(picture, size)
