"""Backgrounds with a texture, and noise."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from onlooker.train.world.facts import Stage

TEXTURES = ("flat", "gradient", "stripes", "waves", "checks", "blotches")
_BANK = 2**21  # numbers of noise that are drawn once; every frame reads a stretch of them


def paint_background(stage: Stage, size: int, margin: int, rng: np.random.Generator) -> np.ndarray:
    """A background, float32 [size + 2 * margin, size + 2 * margin, 3] in steps of 255, with room around the picture."""
    full = size + 2 * margin
    along = (np.arange(full, dtype=np.float32) - margin + 0.5) / size
    if stage.texture == "blotches":
        pattern = _blotches(full, rng)
    else:
        phase = float(rng.uniform(0, 2 * math.pi))
        pattern = _waves(stage, along, phase)
    return np.array(stage.base, np.float32) + np.float32(stage.contrast) * pattern[..., None]


def _waves(stage: Stage, along: np.ndarray, phase: float) -> np.ndarray:
    """Patterns that repeat or rise, [full, full] between -1 and 1."""
    slant_x, slant_y = np.float32(math.cos(stage.direction)), np.float32(math.sin(stage.direction))
    one = along * slant_x
    two = along * slant_y
    turns = np.float32(2 * math.pi * stage.frequency)
    if stage.texture == "gradient":
        return (one[None] + two[:, None] - 0.5 * (slant_x + slant_y)) * 1.4
    if stage.texture == "stripes":
        return np.clip(3 * np.sin((one[None] + two[:, None]) * turns + np.float32(phase)), -1, 1)
    if stage.texture == "waves":
        return np.sin((one[None] + two[:, None]) * turns + np.float32(phase))
    if stage.texture == "checks":
        wave = np.clip(3 * np.sin(along * turns + np.float32(phase)), -1, 1)
        return wave[None] * wave[:, None]
    return np.zeros((len(along), len(along)), np.float32)


def _blotches(full: int, rng: np.random.Generator) -> np.ndarray:
    """Soft spots: a few random numbers, interpolated."""
    weights = _interpolation(full)
    spots = rng.uniform(-1.3, 1.3, (6, 6)).astype(np.float32)
    return weights @ spots @ weights.T


@lru_cache(maxsize=8)
def _interpolation(full: int) -> np.ndarray:
    place = np.linspace(0, 5, full, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(6, dtype=np.float32)))


@lru_cache(maxsize=1)
def _bank() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_BANK, dtype=np.float32)


def add_noise(frames: np.ndarray, deviation: float, rng: np.random.Generator) -> None:
    """Add grain to float32 frames [F, h, w, 3], another for each frame, in place."""
    if deviation <= 0:
        return
    bank, needed = _bank(), frames[0].size
    repeats = -(-needed // _BANK) + 1
    bank = bank if needed < _BANK // 2 else np.tile(bank, repeats)
    for frame, start in zip(frames, rng.integers(0, len(bank) - needed, len(frames))):
        frame += (bank[start : start + needed] * np.float32(deviation)).reshape(frame.shape)
