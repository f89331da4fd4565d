"""The base of processors of clips, and the one of InstructBLIPVideo: exact resize of every frame."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from onlooker.outputs import BatchFeature
from onlooker.pixels.blip import BlipImageProcessor
from onlooker.pixels.clips import Sampling, clips_of
from onlooker.pixels.files import PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE
from onlooker.pixels.inputs import FIRST, format_name
from onlooker.pixels.processor import ImageProcessor
from onlooker.pixels.resize import TORCH
from onlooker.pixels.settings import PAPER, Settings

_CALL_OPTIONS = ("return_tensors", "data_format", "input_data_format", "do_sample_frames", "num_frames")


class ClipProcessor(ImageProcessor):
    """What processors of clips share: how clips come in and how they are put together."""

    extras: ClassVar[dict[str, Any]] = {"resize_with": TORCH, "do_sample_frames": False, "num_frames": None}
    config_files: ClassVar[tuple[str, ...]] = (VIDEO_PREPROCESSOR_FILE, PREPROCESSOR_FILE)
    config_sections: ClassVar[tuple[str, ...]] = ("video_processor", "image_processor")
    takes_shortest_edge: ClassVar[bool] = True
    is_rest_first: ClassVar[bool] = False

    do_sample_frames: bool
    num_frames: int | None

    @classmethod
    def call_options(cls) -> list[str]:
        """Names of everything that a call takes beside the pictures."""
        return [*Settings.__dataclass_fields__, *_CALL_OPTIONS]

    def _settings(self, overrides: dict[str, Any]) -> Settings:
        unknown = [name for name in overrides if name not in Settings.__dataclass_fields__]
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}; there are {', '.join(self.call_options())}")
        return super()._settings(overrides)

    def _sampling(self, do_sample_frames: bool | None, num_frames: int | None, settings: Settings) -> Sampling:
        """A number given in the call is meant; one among the options counts when sampling is switched on."""
        wanted = num_frames
        if do_sample_frames is None:
            do_sample_frames = self.do_sample_frames or num_frames is not None
        if do_sample_frames and wanted is None:
            wanted = self.num_frames
            if wanted is None:
                raise ValueError("do_sample_frames needs num_frames, the number of frames to use")
        policy = "linspace" if settings.preprocessing == PAPER else "uniform"
        return Sampling(wanted if do_sample_frames else None, policy)

    def _clips(
        self, videos: Any, settings: Settings, sampling: Sampling, *, data_format: Any, input_data_format: Any
    ) -> list[np.ndarray]:
        """Every clip as float32 [F, C, h, w], or with the channels last."""
        wanted = format_name(data_format) or FIRST
        clips = clips_of(
            videos,
            sampling=sampling,
            input_data_format=format_name(input_data_format),
            do_convert_rgb=settings.do_convert_rgb,
        )
        return [np.asarray(self._clip_values(frames, settings, wanted)) for frames in clips]

    def _clip_values(self, frames: list[Any], settings: Settings, wanted: str) -> list[np.ndarray] | np.ndarray:
        return self._values(frames, settings, wanted)


def clip_batch(key: str, clips: list[np.ndarray], return_tensors: str | None) -> BatchFeature:
    """One tensor [n, F, C, h, w] where the clips are of one length; a list of tensors where their lengths differ.

    Raises:
        ValueError: tensors of frames that differ in size.
    """
    kind = getattr(return_tensors, "value", return_tensors)
    if kind is None:
        return BatchFeature({key: clips})
    sizes = sorted({clip.shape[1:] for clip in clips})
    if len(sizes) > 1:
        raise ValueError(
            f"clips with frames of {', '.join(map(str, sizes))} do not make one batch; set do_resize=True, or leave "
            "return_tensors out to get a list"
        )
    if len({len(clip) for clip in clips}) == 1:
        whole = clips[0][None] if len(clips) == 1 else np.stack(clips)
        return BatchFeature({key: whole}, tensor_type=return_tensors)
    converted = [BatchFeature({key: clip}, tensor_type=return_tensors)[key] for clip in clips]
    return BatchFeature({key: converted})


class InstructBlipVideoImageProcessor(ClipProcessor, BlipImageProcessor):
    """Clips to pixel_values [n, F, 3, h, w]: every frame resized to `size` whatever the aspect, and normalised.

    The arguments are those of `BlipImageProcessor`. `resize_with` is "torch" unless given, which has the numbers of
    the published video processor; "pillow" has those of the published picture processor, at most two levels away.
    `num_frames` with `do_sample_frames=True` takes that many frames of each clip.
    """

    def preprocess(  # type: ignore[override]
        self,
        images: Any,
        *,
        do_sample_frames: bool | None = None,
        num_frames: int | None = None,
        return_tensors: str | None = None,
        data_format: str | None = FIRST,
        input_data_format: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Turn clips into `pixel_values`; what is not given is taken from the processor.

        Args:
            images: one clip or a list of them, as `clips_of` takes them: arrays, lists of frames, files.
            num_frames: use that many frames of each clip, spread evenly; all of them when not given.
            return_tensors: "pt" or "np" for one batch (a list where clips differ in length); None for a list.
            options: those of the constructor.

        Raises:
            ValueError: not a clip, or options that do not fit it.
            FileNotFoundError, MediaError: a file that is not there or cannot be read.
            TypeError: an option that there is not.
        """
        settings = self._settings(options)
        sampling = self._sampling(do_sample_frames, num_frames, settings)
        clips = self._clips(images, settings, sampling, data_format=data_format, input_data_format=input_data_format)
        return clip_batch("pixel_values", clips, return_tensors)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write preprocessor_config.json and video_preprocessor_config.json, as older and newer readers want them."""
        return [*super().save_pretrained(save_directory), write_video_options(self, save_directory)]


def write_video_options(processor: ImageProcessor, save_directory: str | os.PathLike[str]) -> str:
    """Write video_preprocessor_config.json into a folder; give its path."""
    options = {name: value for name, value in processor.to_dict().items() if name != "image_processor_type"}
    name = type(processor).__name__.replace("ImageProcessor", "VideoProcessor")
    path = Path(save_directory) / VIDEO_PREPROCESSOR_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**options, "video_processor_type": name}, indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8")
    return str(path)


InstructBlipVideoVideoProcessor = InstructBlipVideoImageProcessor
