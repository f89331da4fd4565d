"""Shapes as distances from their edge, so that edges come out smooth at any size."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_TIP = math.pi / 5  # half the angle between two tips of the star
_STAR_INSIDE = 0.46  # radius of the star's inner corners


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - np.float32(0.92)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.72)) - np.float32(0.25)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.8)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    slope = np.abs(u) * np.float32(math.sqrt(3) / 2) - v * np.float32(0.5)
    return np.maximum(slope, v) - np.float32(0.53)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    across, along = np.abs(u), np.abs(v)
    long, short = np.float32(0.98), np.float32(0.3)
    return np.minimum(np.maximum(across - long, along - short), np.maximum(across - short, along - long))


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Fold all ten half-tips onto one, and measure from its one edge."""
    length = np.sqrt(u * u + v * v)
    turn = np.float32(2 * _TIP)
    angle = np.arctan2(u, -v)
    angle = np.abs(angle - turn * np.round(angle / turn))
    tip = np.float32(1.08)
    corner = np.float32(_STAR_INSIDE * math.cos(_TIP)), np.float32(_STAR_INSIDE * math.sin(_TIP))
    edge = math.hypot(corner[0] - tip, corner[1])
    normal = np.float32(corner[1] / edge), np.float32((tip - corner[0]) / edge)
    return normal[0] * (length * np.cos(angle) - tip) + normal[1] * length * np.sin(angle)


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def cover(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, 0 to 1.

    Args:
        x, y: float32 distance of the pixels from the shape's middle, in pixels, broadcast against each other.
        radius: in pixels, and
        angle: in radians, each broadcast against x and y.
    """
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    distance = _DISTANCES[shape](x * cos + y * sin, y * cos - x * sin)
    return np.clip(np.float32(0.5) - distance * radius, 0, 1)
