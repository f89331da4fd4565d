"""Pictures to pixel_values: resized with Pillow, rescaled, normalised, channels first."""

from onlooker.pixels.blip import BlipImageProcessor
from onlooker.pixels.processor import ImageProcessor

__all__ = ["BlipImageProcessor", "ImageProcessor"]
