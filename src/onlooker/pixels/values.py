"""Turns 8-bit pixels into model values: rescaled and normalised through one table of 256 entries per channel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from onlooker.native import resizing


def channel_values(values: float | Sequence[float], name: str) -> float | tuple[float, ...]:
    """A mean or deviation, for all channels at once or one by one, in a form that can be compared and hashed.

    Raises:
        ValueError: it is not given as one number or a sequence of numbers.
    """
    if isinstance(values, (int, float, np.number)):
        return float(values)
    try:
        return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {values!r}; give one number, or one for each channel") from None


def model_values(
    picture: np.ndarray,
    *,
    fractions: bool,
    rescale_factor: float | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Compute (picture * rescale_factor - mean) / std.

    Args:
        picture: [h, w, C] of any numeric type.
        fractions: 255 of a uint8 picture stands for 1.0.
        rescale_factor, mean, std: None to leave the step out (mean and std together).
        out: float32 [C, h, w] to write into, contiguous.

    Returns:
        float32 [C, h, w].

    Raises:
        ValueError: mean or std do not have a value for every channel.
    """
    channels = picture.shape[2]
    if picture.dtype != np.uint8:
        exact = _chain(picture, fractions, rescale_factor, _per_channel(mean, channels), _per_channel(std, channels))
        exact = exact.transpose(2, 0, 1)
        return np.ascontiguousarray(exact) if out is None else _write(out, exact)
    table = _table(channels, fractions, rescale_factor, mean, std)
    if out is None:
        out = np.empty((channels, *picture.shape[:2]), dtype=np.float32)
    if resizing.look_up(picture, table, out):
        return out
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1))  # a quarter faster than to look up every third byte
    for channel in range(channels):
        np.take(table[channel], planes[channel], out=out[channel], mode="clip")  # "raise" would buffer
    return out


def _write(out: np.ndarray, values: np.ndarray) -> np.ndarray:
    out[...] = values
    return out


def _per_channel(values: float | tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, tuple):
        return (values,) * channels
    if len(values) != channels:
        raise ValueError(
            f"the picture has {channels} channels, but image_mean or image_std has {len(values)} values; "
            "give one for each channel, or a single number"
        )
    return values


@lru_cache(maxsize=32)
def _table(
    channels: int,
    fractions: bool,
    rescale_factor: float | None,
    mean: float | tuple[float, ...] | None,
    std: float | tuple[float, ...] | None,
) -> np.ndarray:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], channels, axis=1)  # [256, C]
    mean, std = _per_channel(mean, channels), _per_channel(std, channels)
    table = np.ascontiguousarray(_chain(levels, fractions, rescale_factor, mean, std).T)
    table.setflags(write=False)
    return table


def _chain(
    x: np.ndarray,
    fractions: bool,
    rescale_factor: float | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> np.ndarray:
    """The steps one after the other, with the roundings of the reference: products in float64, the rest in float32."""
    if fractions:
        x = (x.astype(np.float64) * (1 / 255)).astype(np.float32)
    if rescale_factor is not None:
        x = (x.astype(np.float64) * rescale_factor).astype(np.float32)
    if mean is not None:
        x = x if x.dtype == np.float64 else x.astype(np.float32)
        x = (x - np.array(mean, dtype=x.dtype)) / np.array(std, dtype=x.dtype)
    return x.astype(np.float32)
