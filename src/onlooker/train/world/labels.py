"""Dense labels of frames: what is where, to teach a vision tower before it meets any words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onlooker.train.world.facts import COLORS, MOTIONS, SHAPES, Scene
from onlooker.train.world.render import render_with_owners
from onlooker.train.world.tracks import frame_times, place

_COLOR_NUMBER = {color: 1 + number for number, color in enumerate(COLORS)}
_SHAPE_NUMBER = {shape: 1 + number for number, shape in enumerate(SHAPES)}


@dataclass(frozen=True)
class DenseLabels:
    """What is where in each frame.  Colours and shapes count from 1 in the order of `facts`; 0 is background."""

    owners: np.ndarray  # uint8 [F, h, w]: 0, or 1 + number of the thing that is seen
    boxes: np.ndarray  # float32 [F, things, 4]: left, top, right, bottom as fractions; 0 where nothing is seen
    seen: np.ndarray  # float32 [F, things]: part of the picture that shows the thing
    colors: np.ndarray  # int64 [things]
    shapes: np.ndarray  # int64 [things]
    motions: np.ndarray  # int64 [things], the number in MOTIONS

    def patches(self, patch_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The thing that covers most of each patch: its colour and shape, and the part that all things cover.

        Returns:
            colors int64 [F, g, g], shapes int64 [F, g, g], cover float32 [F, g, g]. A patch of which things cover
            less than a tenth is background.

        Raises:
            ValueError: the pictures are no whole number of patches wide.
        """
        frames, size = self.owners.shape[:2]
        if size % patch_size:
            raise ValueError(f"pictures of {size} pixels are no whole number of patches of {patch_size}")
        grid = size // patch_size
        cells = self.owners.reshape(frames, grid, patch_size, grid, patch_size)
        shares = np.stack([(cells == 1 + thing).mean((2, 4)) for thing in range(len(self.colors))])
        cover = shares.sum(0)
        winner = np.where(cover < 0.1, 0, 1 + shares.argmax(0))
        colors, shapes = np.append(0, self.colors), np.append(0, self.shapes)
        return colors[winner], shapes[winner], cover.astype(np.float32)


def render_with_labels(scene: Scene, size: int = 56, num_frames: int = 8) -> tuple[np.ndarray, DenseLabels]:
    """Frames uint8 [F, size, size, 3], the same as `render` gives, and what is where in them."""
    frames, owners = render_with_owners(scene, size, num_frames)
    things = scene.things
    numbers = np.arange(1, len(things) + 1, dtype=np.uint8)
    mine = np.asarray(np.equal(owners[:, None], numbers[:, None, None]))  # [F, things, h, w]
    return frames, DenseLabels(
        owners,
        _boxes(mine),
        mine.mean((2, 3), dtype=np.float32),
        np.array([_COLOR_NUMBER[thing.color] for thing in things]),
        np.array([_SHAPE_NUMBER[thing.shape] for thing in things]),
        np.array([MOTIONS.index(thing.motion) for thing in things]),
    )


def true_tracks(scene: Scene, num_frames: int = 8) -> np.ndarray:
    """Where things are apart from what hides them: [things, F, 5], see `tracks.place`; without the camera's shake."""
    return place(scene.things, frame_times(1 if scene.is_still else num_frames))


def _boxes(mine: np.ndarray) -> np.ndarray:
    boxes = np.zeros((*mine.shape[:2], 4), np.float32)
    for low, high, axis in ((0, 2, 2), (1, 3, 3)):
        line: np.ndarray = np.any(mine, axis=axis)  # [F, things, side]
        side = line.shape[-1]
        some = line.any(-1)
        boxes[..., low] = np.where(some, line.argmax(-1), 0) / side
        boxes[..., high] = np.where(some, side - line[..., ::-1].argmax(-1), 0) / side
    return boxes
