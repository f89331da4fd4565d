"""The processors of Video-LLaVA, for pictures and for clips: short side resized, middle cropped."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np

from onlooker.outputs import BatchFeature
from onlooker.pixels.files import PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE
from onlooker.pixels.inputs import FIRST, LAST, flat_pictures, format_name
from onlooker.pixels.paper import paper_clip, paper_picture
from onlooker.pixels.processor import IMAGE_MEAN, IMAGE_STD
from onlooker.pixels.resize import PILLOW, TORCH, size_dict
from onlooker.pixels.settings import HF, PAPER, Settings
from onlooker.pixels.video import ClipProcessor, clip_batch, write_video_options

_EXTRAS = {"do_sample_frames": False, "num_frames": None, "preprocessing": HF}


class _VideoLlavaProcessor(ClipProcessor):
    """What the processors of pictures and of clips have in common: their options."""

    def __init__(
        self,
        do_resize: bool = True,
        size: Any = None,
        resample: int = 3,
        do_center_crop: bool = True,
        crop_size: Any = None,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        do_convert_rgb: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.do_resize = do_resize
        self.size = size_dict(224 if size is None else size, is_square=False)
        self.resample = resample
        self.do_center_crop = do_center_crop
        self.crop_size = size_dict(224 if crop_size is None else crop_size, "crop_size")
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = list(IMAGE_MEAN) if image_mean is None else image_mean
        self.image_std = list(IMAGE_STD) if image_std is None else image_std
        self.do_convert_rgb = do_convert_rgb

    def _clip_values(self, frames: list[Any], settings: Settings, wanted: str) -> list[np.ndarray] | np.ndarray:
        if settings.preprocessing != PAPER:
            return self._values(frames, settings, wanted)
        return _in_format(np.stack([paper_clip(frame, settings) for frame in frames]), wanted)


class VideoLlavaImageProcessor(_VideoLlavaProcessor):
    """Pictures to pixel_values_images [n, 3, h, w], and clips to pixel_values_videos [n, F, 3, h, w].

    Args:
        size: {"shortest_edge": s} or one integer s keeps the shape; {"height", "width"} does not.
        resample: Pillow's number of the filter; 3 is bicubic.
        crop_size: {"height", "width"} or one integer for a square; smaller pictures get zeros around them.
        image_mean, image_std: one number, or one for each channel; on the scale after rescaling.
        kwargs: `resize_with`, "pillow" (the default here, the numbers of the published picture processor) or "torch";
            `preprocessing`, "hf" (the default, the published checkpoint's) or "paper" (the original Video-LLaVA's);
            `num_frames` of each clip, used when `do_sample_frames`; any others are kept and written back.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values_images"]
    extras: ClassVar[dict[str, Any]] = {"resize_with": PILLOW, **_EXTRAS}
    is_rest_first: ClassVar[bool] = True
    config_files: ClassVar[tuple[str, ...]] = (PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE)
    config_sections: ClassVar[tuple[str, ...]] = ("image_processor", "video_processor")

    def __call__(self, images: Any = None, videos: Any = None, **options: Any) -> BatchFeature:
        """Same as `preprocess`."""
        return self.preprocess(images, videos, **options)

    def preprocess(
        self,
        images: Any = None,
        videos: Any = None,
        *,
        do_sample_frames: bool | None = None,
        num_frames: int | None = None,
        return_tensors: str | None = None,
        data_format: str | None = FIRST,
        input_data_format: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Turn pictures into `pixel_values_images` and clips into `pixel_values_videos`.

        Args:
            images: one picture or any nesting of lists: Pillow image, array or tensor (4-d: a batch), path, URL, bytes.
            videos: one clip or a list of them: array, list of frames, file.
            num_frames: use that many frames of each clip, spread evenly; all of them when not given.
            return_tensors: "pt" or "np" for one batch (a list where clips differ in length); None for lists.
            options: those of the constructor; what is not given is taken from the processor.

        Raises:
            ValueError: neither pictures nor clips, something that is none, or options that do not fit.
            FileNotFoundError, MediaError: a file that is not there or cannot be read.
            TypeError: an option that there is not.
        """
        if images is None and videos is None:
            raise ValueError("give images, videos or both")
        settings = self._settings(options)
        formats = {"data_format": data_format, "input_data_format": input_data_format}
        batch = BatchFeature()
        if videos is not None:
            sampling = self._sampling(do_sample_frames, num_frames, settings)
            batch.update(
                clip_batch("pixel_values_videos", self._clips(videos, settings, sampling, **formats), return_tensors)
            )
        if images is not None:
            values = self._picture_values(images, settings, **formats)
            batch.update(self._batch("pixel_values_images", values, return_tensors))
        return batch

    def _picture_values(
        self, images: Any, settings: Settings, *, data_format: Any, input_data_format: Any
    ) -> list[np.ndarray] | np.ndarray:
        if settings.preprocessing != PAPER:
            return self._pixel_values(images, settings, data_format=data_format, input_data_format=input_data_format)
        pictures, came_as = flat_pictures(
            images, input_data_format=format_name(input_data_format), do_convert_rgb=settings.do_convert_rgb
        )
        values = np.stack([paper_picture(picture, settings) for picture in pictures])
        return _in_format(values, format_name(data_format) or came_as)


class VideoLlavaVideoProcessor(_VideoLlavaProcessor):
    """Clips to pixel_values_videos [n, F, 3, h, w].

    The arguments are those of `VideoLlavaImageProcessor`; `resize_with` is "torch" unless given, which has the numbers
    of the published video processor.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values_videos"]
    extras: ClassVar[dict[str, Any]] = {"resize_with": TORCH, **_EXTRAS}

    def __call__(self, videos: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        """Same as `preprocess`."""
        return self.preprocess(videos, **options)

    def preprocess(  # type: ignore[override]
        self,
        videos: Any,
        *,
        do_sample_frames: bool | None = None,
        num_frames: int | None = None,
        return_tensors: str | None = None,
        data_format: str | None = FIRST,
        input_data_format: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Turn clips into `pixel_values_videos`; arguments and errors are those of `VideoLlavaImageProcessor`."""
        settings = self._settings(options)
        sampling = self._sampling(do_sample_frames, num_frames, settings)
        clips = self._clips(videos, settings, sampling, data_format=data_format, input_data_format=input_data_format)
        return clip_batch("pixel_values_videos", clips, return_tensors)

    def to_dict(self) -> dict[str, Any]:
        """All options, in the form in which they are written."""
        options = {name: value for name, value in super().to_dict().items() if name != "image_processor_type"}
        return {**options, "video_processor_type": type(self).__name__}

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write video_preprocessor_config.json into a folder, which is made if need be; gives its path in a list."""
        return [write_video_options(self, save_directory)]


def _in_format(values: np.ndarray, wanted: str) -> np.ndarray:
    """[n, C, h, w] with the channels where they are wanted."""
    return np.ascontiguousarray(np.moveaxis(values, 1, -1)) if wanted == LAST else values
