"""Pictures and clips to pixel values: resized, rescaled, normalised, channels first."""

from onlooker.pixels.blip import BlipImageProcessor
from onlooker.pixels.processor import ImageProcessor
from onlooker.pixels.video import InstructBlipVideoImageProcessor, InstructBlipVideoVideoProcessor
from onlooker.pixels.video_llava import VideoLlavaImageProcessor, VideoLlavaVideoProcessor

__all__ = [
    "BlipImageProcessor",
    "ImageProcessor",
    "InstructBlipVideoImageProcessor",
    "InstructBlipVideoVideoProcessor",
    "VideoLlavaImageProcessor",
    "VideoLlavaVideoProcessor",
]
