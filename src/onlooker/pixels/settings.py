"""What one call of an image processor does: its options, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onlooker.pixels.resize import PILLOW, TORCH
from onlooker.pixels.values import channel_values

HF, PAPER = "hf", "paper"  # values of `preprocessing`


@dataclass(frozen=True)
class Settings:
    """Options of one call: those of the processor, overridden by those of the call."""

    do_resize: bool
    size: Any
    resample: int
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: float | tuple[float, ...] | None
    image_std: float | tuple[float, ...] | None
    do_convert_rgb: bool
    do_center_crop: bool | None = None
    crop_size: Any = None
    resize_with: str | None = None
    preprocessing: str | None = None

    def __post_init__(self) -> None:
        if self.do_rescale and self.rescale_factor is None:
            raise ValueError("do_rescale needs a rescale_factor")
        if self.do_resize and (self.size is None or self.resample is None):
            raise ValueError("do_resize needs size and resample")
        if self.do_center_crop and self.crop_size is None:
            raise ValueError("do_center_crop needs a crop_size")
        for name, choices in (("resize_with", (PILLOW, TORCH)), ("preprocessing", (HF, PAPER))):
            if getattr(self, name) not in (None, *choices):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it may be {' or '.join(map(repr, choices))}")
        if self.do_normalize:
            if self.image_mean is None or self.image_std is None:
                raise ValueError("do_normalize needs both image_mean and image_std")
            # frozen: options are plain values from here on, so that tables made from them can be kept
            object.__setattr__(self, "image_mean", channel_values(self.image_mean, "image_mean"))
            std = channel_values(self.image_std, "image_std")
            if 0.0 in (std if isinstance(std, tuple) else (std,)):
                raise ValueError(f"image_std is {self.image_std!r}; it must not be 0")
            object.__setattr__(self, "image_std", std)

    @property
    def value_options(self) -> dict[str, Any]:
        """The arguments of `model_values` that are the same for every picture."""
        return {
            "rescale_factor": float(self.rescale_factor) if self.do_rescale else None,
            "mean": self.image_mean if self.do_normalize else None,
            "std": self.image_std if self.do_normalize else None,
        }
