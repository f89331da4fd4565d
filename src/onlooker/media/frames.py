"""`Frames`: the pictures taken out of a clip, with the place in the clip that each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image


@dataclass(eq=False)
class Frames:
    """Frames of one clip in the order asked for.

    `len`, iteration and `frames[3]` give pictures [h, w, 3]; `frames[2:5]` gives `Frames`; `numpy.asarray(frames)` is
    `pixels`, so an object of this class can be handed to whatever takes an array.
    """

    pixels: np.ndarray  # uint8 [F, h, w, 3]; what `resize` returned, stacked, when it is a function
    indices: list[int]  # number of each frame in the clip, from 0, in presentation order
    seconds: list[float]  # when each frame is first shown, counted from the clip's first frame; nan where unknown
    fps: float | None  # frames per second of the whole clip on average; None where unknown
    source: str  # what messages call the clip
    warnings: list[str] = field(default_factory=list)  # everything that was also said through warnings.warn
    start: float | None = None  # the stretch of the clip that was asked for; None for its own ends
    end: float | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.pixels)

    def __getitem__(self, item: Any) -> Any:
        if not isinstance(item, slice):
            return self.pixels[item]
        return Frames(
            self.pixels[item],
            self.indices[item],
            self.seconds[item],
            self.fps,
            self.source,
            list(self.warnings),
            self.start,
            self.end,
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        pixels = self.pixels if dtype is None else self.pixels.astype(dtype, copy=False)
        return pixels.copy() if copy and pixels is self.pixels else pixels

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def pictures(self) -> np.ndarray:
        """uint8 [F, h, w, 3]: `pixels`, which are that unless something was made of them.

        Raises:
            ValueError: a `resize` function made something else than pictures of them.
        """
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(
                f"{self.pixels.dtype} of shape {self.pixels.shape} are not RGB pictures; wanted uint8 [F, h, w, 3]"
            )
        return self.pixels

    def to_pil(self) -> list[Image.Image]:
        """The frames as Pillow images; raises as `pictures`."""
        return [Image.fromarray(picture) for picture in self.pictures()]

    def __repr__(self) -> str:
        times = ", ".join(f"{second:.2f}" for second in self.seconds)
        return f"Frames({self.source!r}, {len(self)} of shape {self.pixels.shape[1:]}, seconds=[{times}])"
