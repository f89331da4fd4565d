"""Sorts whatever the user calls videos into a list of clips, each a list of frames with their channels last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media.array import is_tensor, tensor_to_numpy
from onlooker.media.decode import decode_image
from onlooker.media.source import Source, find_source
from onlooker.pixels.inputs import FIRST, LAST, flat_pictures

Frame = Image.Image | np.ndarray
_MAX_WHOLE = 64  # frames of a file that are taken when nobody said how many
_KINDS = (
    "an array or tensor [F, h, w, 3] or [F, 3, h, w], a list of Pillow frames, a path, a URL, bytes, one picture for a "
    "clip of one frame, or a list of these"
)


@dataclass(frozen=True)
class Sampling:
    """How many frames of each clip are used: all of them when `num_frames` is None."""

    num_frames: int | None = None
    policy: str = "uniform"  # how `load_video` spreads them over a file

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; a clip has one frame or more")

    def of(self, frames: Any) -> Any:
        """Frames spread evenly over those given: the i-th of k is number floor(i * F / k)."""
        have, want = len(frames), self.num_frames
        if want is None:
            return frames
        if want > have:
            raise ValueError(
                f"num_frames is {want}, but the clip has {have} frame{'s' * (have != 1)}; ask for {have} or fewer, "
                "or let onlooker.load_video repeat some"
            )
        return [frames[i * have // want] for i in range(want)]


def clips_of(
    videos: Any, *, sampling: Sampling, input_data_format: str | None, do_convert_rgb: bool
) -> list[list[Frame]]:
    """List every clip of `videos`, in reading order.

    Args:
        videos: one clip or a list of them (lists of lists too): array or torch tensor (4-d; 5-d for a batch of clips;
            3-d for one frame), list of frames, `Frames` of load_video, a single picture, path, URL, bytes.
        input_data_format: "channels_first" or "channels_last" of the arrays; None to find it out for each clip.

    Returns:
        Clips of Pillow images in RGB or arrays [h, w, C]; the frames of one clip are of one size.

    Raises:
        ValueError: nothing at all, something that is no clip, frames of several sizes, or more frames asked for than
            there are.
        FileNotFoundError, MediaError: a file that is not there or cannot be read.
    """
    clips = []
    for raw in _parted(videos, sampling):
        frames = _frames(raw, input_data_format, do_convert_rgb)
        _check_sizes(frames)
        clips.append(frames)
    if not clips:
        raise ValueError("videos is empty; give at least one clip")
    return clips


def _parted(videos: Any, sampling: Sampling) -> list[Any]:
    """Clips as 4-d arrays or lists of single pictures, sampled."""
    if is_tensor(videos):
        videos = tensor_to_numpy(videos)
    elif hasattr(videos, "pixels") and hasattr(videos, "indices"):  # Frames of load_video
        videos = videos.pixels
    if isinstance(videos, np.ndarray):
        return _parted_array(videos, sampling)
    if isinstance(videos, Image.Image):
        return [sampling.of([videos])]
    if _is_file(videos):
        return [_read(videos, sampling)]
    if isinstance(videos, (list, tuple)):
        if videos and all(_is_one_picture(item) for item in videos):
            return [sampling.of(list(videos))]
        return [clip for item in videos for clip in _parted(item, sampling)]
    raise ValueError(f"{type(videos).__name__} is not a video; give {_KINDS}")


def _parted_array(videos: np.ndarray, sampling: Sampling) -> list[Any]:
    if videos.ndim == 5:
        return [_chosen(clip, sampling) for clip in videos]
    if videos.ndim == 4:
        return [_chosen(videos, sampling)]
    if videos.ndim == 3:
        return [_chosen(videos[None], sampling)]
    raise ValueError(f"an array of shape {videos.shape} is not a video; give {_KINDS}")


def _chosen(clip: np.ndarray, sampling: Sampling) -> Any:
    """The frames that are used, still as one array, so that its layout is found out once."""
    if sampling.num_frames is None:
        return clip
    return clip[sampling.of(range(len(clip)))]


def _is_one_picture(item: Any) -> bool:
    return isinstance(item, Image.Image) or (getattr(item, "ndim", None) == 3 and not hasattr(item, "pixels"))


def load_clip(source: Any, num_frames: int, policy: str = "uniform") -> Any:
    """Frames of a file, `num_frames` of them; anything else comes back as it is.

    A still picture gives one frame; a list of files is read as the frames of one clip.

    Raises:
        FileNotFoundError, MediaError: a file that is not there or cannot be read.
    """
    from onlooker.media import load_video, open_image

    if isinstance(source, (list, tuple)) and source and all(map(_is_file, source)):
        return [open_image(item) for item in source]
    if not _is_file(source):
        return source
    media, still = _opened(source)
    return [still] if still is not None else load_video(media, num_frames=num_frames, sampling=policy).pixels


def as_picture(source: Any) -> Any:
    """The picture in a file, the first one if it moves; anything else comes back as it is."""
    from onlooker.media import open_image

    return open_image(source) if _is_file(source) else source


def _read(source: Any, sampling: Sampling) -> Any:
    """Frames of a file; a still picture is a clip of one frame, whatever its name says."""
    from onlooker.media import load_video, probe_video

    media, still = _opened(source)
    if still is not None:
        return sampling.of([still])
    info = probe_video(media)
    if sampling.num_frames is not None:
        sampling.of(range(info.frames))  # too few of them is an error here, where load_video repeats
        return load_video(media, num_frames=sampling.num_frames, sampling=sampling.policy).pixels
    if info.frames > _MAX_WHOLE:
        raise ValueError(
            f"{info.source} has {info.frames} frames, and all of them would be used; say how many with num_frames=8, "
            "or give the frames of onlooker.load_video"
        )
    return load_video(media, sampling="all").pixels


def _opened(source: Any) -> tuple[Any, Image.Image | None]:
    """What to read a clip from, fetched once; and the picture in it where it holds a still one."""
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):  # of frames
        return source, None
    found = find_source(source)
    return (found.data if found.path is None else found.path), _still(found)


def _is_file(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike, bytes, bytearray)) or hasattr(source, "read")


def _still(found: Source) -> Image.Image | None:
    """The picture in a file that holds one, or None where it holds something else, moving pictures included."""
    from onlooker.media import open_image

    try:
        image = decode_image(found, max_megapixels=None, max_side_ratio=None)
    except MediaError:
        return None
    if getattr(image, "n_frames", 1) > 1:
        return None
    return open_image(found.data if found.path is None else found.path)


def _frames(raw: Any, input_data_format: str | None, do_convert_rgb: bool) -> list[Frame]:
    if isinstance(raw, np.ndarray):
        data_format = input_data_format or _clip_format(raw)
        raw = list(raw if data_format == LAST else raw.transpose(0, 2, 3, 1))
        input_data_format = LAST
    frames, _ = flat_pictures(raw, input_data_format=input_data_format, do_convert_rgb=do_convert_rgb)
    if not do_convert_rgb:
        return frames
    return [
        np.repeat(frame, 3, axis=2) if isinstance(frame, np.ndarray) and frame.shape[2] == 1 else frame
        for frame in frames
    ]


def _clip_format(clip: np.ndarray) -> str:
    if len(clip) == 0 or 0 in clip.shape:
        raise ValueError(f"a clip of shape {clip.shape} holds no frames")
    if clip.shape[1] in (1, 3):
        return FIRST
    if clip.shape[3] in (1, 3):
        return LAST
    hint = "; move its first axis with transpose(1, 0, 2, 3)" if clip.shape[0] in (1, 3) else ""
    raise ValueError(
        f"no axis of the clip's shape {clip.shape} looks like channels; wanted [F, h, w, 3] or [F, 3, h, w]{hint}"
    )


def _check_sizes(frames: list[Frame]) -> None:
    sizes = [frame.size[::-1] if isinstance(frame, Image.Image) else frame.shape[:2] for frame in frames]
    odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if odd is not None:
        (height, width), (other_height, other_width) = sizes[0], sizes[odd]
        raise ValueError(
            f"frame 0 of a clip is {width}x{height} and frame {odd} is {other_width}x{other_height}; bring them to one "
            "size, or give single pictures as clips of their own: [[first], [second]]"
        )
