"""Images as a model sees them, made once and asked about often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from onlooker.media import load_image


@dataclass(frozen=True, eq=False)
class Encoded:
    """One image after the vision tower, to be given wherever an image is taken.

    Attributes:
        features: [Q, D] visual tokens of the language model, or [1+P, D] patch features of a matching checkpoint.
        image_size: width and height of the image it was made from.
    """

    features: Tensor
    image_size: tuple[int, int]
    owner: object  # of the `Onlooker` that made it: features of another model would mean nothing

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"Encoded({width}x{height} pixels -> {list(self.features.shape)} {self.features.dtype})"


def is_many(value: Any) -> bool:
    """Whether an argument is a list of things rather than one thing."""
    return isinstance(value, (list, tuple))


def encode_images(
    images: Sequence[Any], *, processor: Any, model: Any, owner: object, batch_size: int
) -> list[Encoded]:
    """Encode images, each different object once; those encoded before by the same owner pass through.

    Raises:
        ValueError: an `Encoded` of another model.
        MediaError: an image that cannot be read.
    """
    ready: dict[int, Encoded] = {}
    todo: dict[int, Any] = {}
    for image in images:
        if not isinstance(image, Encoded):
            todo.setdefault(id(image), image)
        elif image.owner is not owner:
            raise ValueError("this image was encoded by another model: encode it again with the one that is asked")
        else:
            ready[id(image)] = image
    pending = list(todo.items())
    for start in range(0, len(pending), batch_size):
        chunk = pending[start : start + batch_size]
        pictures = [_picture(image) for _, image in chunk]
        ready |= zip([key for key, _ in chunk], _run(pictures, processor, model, owner))
    return [ready[id(image)] for image in images]


def _picture(image: Any) -> np.ndarray:
    """The image as uint8 [h, w, 3]; what `load_image` made is taken as it is, also when it is one or three high."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    return load_image(image)


@torch.no_grad()
def _run(pictures: list[np.ndarray], processor: Any, model: Any, owner: object) -> list[Encoded]:
    # As Pillow images: the channel axis of an array one or three pixels high would be a guess.
    pixels = processor.image_processor([Image.fromarray(picture) for picture in pictures], return_tensors="pt")
    pixel_values = pixels["pixel_values"].to(model.device)
    if is_matching(model):
        features = model.vision_model(pixel_values, return_dict=True).last_hidden_state
    else:
        features = model.get_image_features(pixel_values)
    sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
    return [Encoded(each, size, owner) for each, size in zip(features, sizes)]


def is_matching(model: Any) -> bool:
    """Whether a model compares images with texts; the others write."""
    return hasattr(model, "itm_head")
