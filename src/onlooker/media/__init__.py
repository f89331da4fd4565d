"""Media in, uint8 pictures out: images and videos from paths, URLs, bytes, file objects, Pillow images and arrays."""

from onlooker.media.frames import Frames
from onlooker.media.image import load_image, open_image
from onlooker.media.limits import VideoLimits
from onlooker.media.video import VideoInfo, iter_windows, load_video, probe_video

__all__ = [
    "Frames",
    "VideoInfo",
    "VideoLimits",
    "iter_windows",
    "load_image",
    "load_video",
    "open_image",
    "probe_video",
]
