"""Media in, uint8 pictures out: paths, URLs, bytes, file objects, Pillow images and arrays."""

from onlooker.media.image import load_image, open_image

__all__ = ["load_image", "open_image"]
