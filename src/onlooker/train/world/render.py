"""Renders scenes to uint8 frames, and says which pixel belongs to which thing."""

from __future__ import annotations

import numpy as np

from onlooker.train.world.background import add_noise, paint_background
from onlooker.train.world.facts import COLORS, SPLITS, Scene
from onlooker.train.world.shapes import cover
from onlooker.train.world.tracks import frame_times, place

_POST = np.array((96, 92, 88), np.float32)


def render(scene: Scene, size: int = 56, num_frames: int = 8) -> np.ndarray:
    """Frames of a clip, or the picture of a still: uint8 [F, size, size, 3], F = 1 for a still.

    The facts are the same at any size and number of frames, bit for bit the same for the same arguments.
    """
    return render_at(scene, frame_times(1 if scene.is_still else num_frames), size)[0]


def render_with_owners(scene: Scene, size: int = 56, num_frames: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """`render`, and uint8 [F, size, size]: 0 for the background, else 1 + the number of the thing that is seen."""
    frames, owners = render_at(scene, frame_times(1 if scene.is_still else num_frames), size, with_owners=True)
    assert owners is not None
    return frames, owners


def render_at(
    scene: Scene, times: np.ndarray, size: int = 56, *, with_owners: bool = False, salt: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
    """Frames at any times [F], as fractions of the clip.

    Args:
        salt: another number gives another noise and camera, for clips that are rendered piece by piece.
    """
    split = SPLITS.index(scene.split)
    rng = np.random.default_rng([split, int(scene.is_still), scene.seed, 1])  # the background, one for all pieces
    shake = round(scene.stage.jitter * size)
    margin = 4 + shake
    background = paint_background(scene.stage, size, margin, rng)
    canvas = np.repeat(background[None], len(times), 0)
    owners = np.zeros(canvas.shape[:3], np.uint8) if with_owners else None
    tracks = place(scene.things, times)
    for number, (thing, track) in enumerate(zip(scene.things, tracks)):
        seen = np.flatnonzero(track[:, 4])
        if len(seen):
            color = np.array(COLORS[thing.color], np.float32) * np.float32(thing.shade)
            _draw(canvas, owners, thing.shape, color, number + 1, seen, track[seen], size, margin)
    if scene.stage.post is not None:
        middle, width = scene.stage.post
        _draw_post(canvas, owners, margin + middle * size, width * size)
    rng = np.random.default_rng([split, int(scene.is_still), scene.seed, 2, salt])
    frames, owners = _look(canvas, owners, size, margin, shake, rng)
    add_noise(frames, scene.stage.noise, rng)
    frames += np.float32(0.5)
    return np.clip(frames, 0, 255, out=frames).astype(np.uint8), owners


def _draw(
    canvas: np.ndarray,
    owners: np.ndarray | None,
    shape: str,
    color: np.ndarray,
    number: int,
    seen: np.ndarray,
    track: np.ndarray,
    size: int,
    margin: int,
) -> None:
    """Paint a thing into the frames where it is seen, touching only the pixels around it."""
    x, y = (track[:, axis] * size + margin for axis in (0, 1))
    radius, angle = (track[:, column].astype(np.float32)[:, None, None] for column in (2, 3))
    half = int(np.ceil(float(track[:, 2].max()) * size * 1.15)) + 1
    box = np.arange(2 * half)
    limit = canvas.shape[1] - 2 * half
    left, top = (np.clip(np.floor(middle).astype(int) - half, 0, limit) for middle in (x, y))
    columns, rows = left[:, None] + box, top[:, None] + box  # [seen, box]
    dx = (columns + 0.5 - x[:, None]).astype(np.float32)[:, None, :]
    dy = (rows + 0.5 - y[:, None]).astype(np.float32)[:, :, None]
    alpha = cover(shape, dx, dy, radius * np.float32(size), angle)  # [seen, box, box]
    where = seen[:, None, None], rows[:, :, None], columns[:, None, :]
    below = canvas[where]
    canvas[where] = below + alpha[..., None] * (color - below)
    if owners is not None:
        mine = owners[where]
        mine[alpha > 0.5] = number
        owners[where] = mine


def _draw_post(canvas: np.ndarray, owners: np.ndarray | None, middle: float, width: float) -> None:
    """Stand a post in front of everything."""
    first, last = round(middle - width / 2), round(middle + width / 2)
    canvas[:, :, first:last] = _POST
    if owners is not None:
        owners[:, :, first:last] = 0


def _look(
    canvas: np.ndarray,
    owners: np.ndarray | None,
    size: int,
    margin: int,
    shake: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray | None]:
    """What a camera sees that shakes by up to `shake` pixels: each frame cut out of its canvas."""
    corners = margin + rng.integers(-shake, shake + 1, (len(canvas), 2))

    def cut(layers: np.ndarray) -> np.ndarray:
        return np.stack([layer[y : y + size, x : x + size] for layer, (y, x) in zip(layers, corners)])

    return cut(canvas), None if owners is None else cut(owners)
