"""Writes scenes as the files that real data comes in: H.264 MP4 and PNG."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from onlooker.train.world.facts import Scene
from onlooker.train.world.render import render


def write_clip(
    scene: Scene, path: str | os.PathLike[str], *, size: int = 224, num_frames: int = 32, fps: int = 8
) -> Path:
    """Render a clip to an H.264 MP4 file; the same scene gives the same bytes with the same version of the encoder.

    Raises:
        ValueError: a size that is odd, or no name that ends with .mp4.
    """
    return write_frames(render(scene, size, num_frames), path, fps=fps)


def write_still(scene: Scene, path: str | os.PathLike[str], *, size: int = 224) -> Path:
    """Render a still to a PNG file."""
    path = Path(path)
    Image.fromarray(render(scene, size, 1)[0]).save(path, format="PNG")
    return path


def write_frames(
    frames: Iterable[np.ndarray], path: str | os.PathLike[str], *, fps: int = 8, quality: int = 21, key_every: int = 16
) -> Path:
    """Write frames uint8 [h, w, 3], taken one by one, as H.264 in an MP4 file.

    Args:
        quality: the encoder's constant rate factor; smaller is better and larger.
        key_every: frames from one that can be decoded by itself to the next.

    Raises:
        ValueError: no frames, sides that are odd, or a name that does not end with .mp4.
    """
    import av

    path = Path(path)
    if path.suffix != ".mp4":
        raise ValueError(f"{path.name}: clips are written as MP4; give a name that ends with .mp4")
    # One thread and no code that rounds as the processor likes: the bytes depend on the frames alone.
    options = {"crf": str(quality), "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames:
            height, width = frame.shape[:2]
            if stream is None:
                if height % 2 or width % 2:
                    raise ValueError(f"frames of {width}x{height}: H.264 wants even sides")
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.gop_size = key_every
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        if stream is None:
            raise ValueError(f"{path.name}: there are no frames to write")
        container.mux(stream.encode(None))
    return path
