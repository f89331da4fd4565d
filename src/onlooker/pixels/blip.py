"""The image processor of the BLIP families: exact resize, no crop."""

from __future__ import annotations

from typing import Any

from onlooker.outputs import BatchFeature
from onlooker.pixels.inputs import FIRST
from onlooker.pixels.processor import IMAGE_MEAN, IMAGE_STD, ImageProcessor
from onlooker.pixels.resize import size_dict


class BlipImageProcessor(ImageProcessor):
    """RGB, resized to `size` whatever the aspect, rescaled, normalised.

    Args:
        size: {"height", "width"}, (height, width) or one integer for a square.
        resample: Pillow's number of the filter; 3 is bicubic.
        image_mean, image_std: one number, or one for each channel; on the scale after rescaling.
        do_convert_rgb: Pillow images of other modes become RGB; alpha is dropped.
        kwargs: `resize_with` ("pillow", the default, or "torch": faster, and at most two levels of 255 away); any
            others are kept as attributes and written back.
    """

    def __init__(
        self,
        do_resize: bool = True,
        size: Any = None,
        resample: int = 3,
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
        self.size = size_dict(384 if size is None else size)
        self.resample = resample
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = list(IMAGE_MEAN) if image_mean is None else image_mean
        self.image_std = list(IMAGE_STD) if image_std is None else image_std
        self.do_convert_rgb = do_convert_rgb

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: Any = None,
        resample: int | None = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | list[float] | None = None,
        image_std: float | list[float] | None = None,
        return_tensors: str | None = None,
        do_convert_rgb: bool | None = None,
        data_format: str | None = FIRST,
        input_data_format: str | None = None,
        resize_with: str | None = None,
    ) -> BatchFeature:
        """Turn pictures into `pixel_values`; what is not given is taken from the processor.

        Args:
            images: one picture or any nesting of lists: Pillow image, array or tensor (4-d: a batch), path, URL, bytes.
            return_tensors: "pt" or "np" for one batch [N, 3, h, w]; None for a list of arrays.
            data_format: "channels_first", "channels_last", or None for that of the first picture.
            input_data_format: that of the arrays given; found out for each when None.

        Raises:
            ValueError: not a picture, or options that do not fit it.
            FileNotFoundError, MediaError: a file that is not there or cannot be read.
        """
        settings = self._settings(
            {
                "do_resize": do_resize,
                "size": size,
                "resample": resample,
                "do_rescale": do_rescale,
                "rescale_factor": rescale_factor,
                "do_normalize": do_normalize,
                "image_mean": image_mean,
                "image_std": image_std,
                "do_convert_rgb": do_convert_rgb,
                "resize_with": resize_with,
            }
        )
        values = self._pixel_values(images, settings, data_format=data_format, input_data_format=input_data_format)
        return self._batch("pixel_values", values, return_tensors)
