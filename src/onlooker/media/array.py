"""Turns an array of any usual layout and type into a uint8 RGB picture [h, w, 3]."""

from __future__ import annotations

from typing import Any

import numpy as np

from onlooker.errors import MediaError


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor, found out without importing torch."""
    return any(f"{cls.__module__}.{cls.__name__}" == "torch.Tensor" for cls in type(value).__mro__)


def tensor_to_numpy(tensor: Any) -> np.ndarray:
    """A torch tensor of any device as an array; bfloat16, which numpy lacks, becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Read an array as one picture.

    Args:
        array: [h, w], or with 1, 3 or 4 channels first or last (first when both fit; the fourth is alpha,
            which is put on white). uint8; uint16 (full range); other integers and floats of 0..255;
            floats that lie in 0..1 altogether are taken as fractions of white.

    Returns:
        uint8 [h, w, 3], contiguous and independent of `array`.

    Raises:
        MediaError: another shape or type, or values out of range.
    """
    picture = _channels_last(array)
    if 0 in picture.shape:
        raise MediaError(f"an array of shape {array.shape} holds no pixels")
    picture = _to_bytes(picture)
    if picture.shape[2] == 4:
        picture = _on_white(picture)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3))).copy()


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3:
        for channels in ((1, 3), (4,)):
            if array.shape[0] in channels:
                return array.transpose(1, 2, 0)
            if array.shape[2] in channels:
                return array
    raise MediaError(
        f"an array of shape {array.shape} is not one picture; give [h, w], [h, w, channels] or [channels, h, w] "
        "with 1, 3 or 4 channels"
    )


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == np.uint8:
        return picture
    if picture.dtype == np.bool_:
        return picture.astype(np.uint8) * np.uint8(255)
    if picture.dtype == np.uint16:
        return sixteen_to_eight_bits(picture)
    if picture.dtype.kind not in "iuf":
        raise MediaError(f"an array of {picture.dtype} is not a picture; give uint8, or floats of 0..1 or 0..255")
    low, high = picture.min(), picture.max()
    if not (low >= 0 and high <= 255):  # written so that NaN fails too
        raise MediaError(f"pixel values run from {low} to {high}; give 0..255, or floats of 0..1")
    if picture.dtype.kind == "f":
        picture = np.rint(picture.astype(np.float32) * np.float32(255 if high <= 1 else 1))
    return picture.astype(np.uint8)


def sixteen_to_eight_bits(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, rounded: 65535 is 257 times 255, so white stays white."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[:, :, 3:].astype(np.uint32)
    blended = rgba[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
