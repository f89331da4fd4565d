"""The base of image processors: options, saving and loading, and the way of a picture through the steps."""

from __future__ import annotations

import copy
import inspect
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from onlooker.outputs import BatchFeature
from onlooker.pixels.files import PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE, read_options
from onlooker.pixels.inputs import FIRST, flat_pictures, format_name
from onlooker.pixels.resize import PILLOW, center_crop, check_range, height_and_width, middle, resize, target_size
from onlooker.pixels.settings import Settings
from onlooker.pixels.values import model_values

if TYPE_CHECKING:
    from typing_extensions import Self

# of every family here: the mean and deviation of the pictures CLIP was trained on
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_NOT_OPTIONS = ("image_processor_type", "video_processor_type", "feature_extractor_type")
_WITHOUT_MEANING_HERE = ("use_fast", "trust_remote_code")


class ImageProcessor:
    """Options as attributes, read at every call, so that they may be set later; subclasses declare their own."""

    model_input_names: ClassVar[list[str]] = ["pixel_values"]
    config_files: ClassVar[tuple[str, ...]] = (PREPROCESSOR_FILE, VIDEO_PREPROCESSOR_FILE)
    config_sections: ClassVar[tuple[str, ...]] = ("image_processor", "video_processor")
    # Options that published files do not hold, with their defaults; they are written only when they differ.
    extras: ClassVar[dict[str, Any]] = {"resize_with": PILLOW}
    takes_shortest_edge: ClassVar[bool] = False  # or exact sizes only
    is_rest_first: ClassVar[bool] = True  # where an odd row of zeros goes when a picture is smaller than its crop

    def __init__(self, **options: Any) -> None:
        self._warned_of_fractions = False
        for name, default in self.extras.items():
            given = options.pop(name, None)
            setattr(self, name, default if given is None else given)
        for name, value in options.items():
            if name not in _NOT_OPTIONS:
                setattr(self, name, value)

    # -- pictures to values

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """Same as `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(self, images: Any, *args: Any, **options: Any) -> BatchFeature:
        """Each family documents its own."""
        raise NotImplementedError

    def _settings(self, overrides: dict[str, Any]) -> Settings:
        chosen: dict[str, Any] = {
            name: getattr(self, name, None) if overrides.get(name) is None else overrides[name]
            for name in Settings.__dataclass_fields__
        }
        return Settings(**chosen)

    def _pixel_values(
        self, images: Any, settings: Settings, *, data_format: Any = FIRST, input_data_format: Any = None
    ) -> list[np.ndarray] | np.ndarray:
        """Run the pictures through all steps: float32, one array [N, C, h, w], or a list when their sizes differ."""
        pictures, came_as = flat_pictures(
            images, input_data_format=format_name(input_data_format), do_convert_rgb=settings.do_convert_rgb
        )
        wanted = format_name(data_format) or came_as
        return self._values(pictures, settings, wanted)

    def _values(
        self, pictures: list[Image.Image | np.ndarray], settings: Settings, wanted: str
    ) -> list[np.ndarray] | np.ndarray:
        """`_pixel_values` of pictures that have their channels last already; `wanted` is the format given back."""
        if settings.do_rescale:
            self._warn_of_fractions(pictures)
        shaped = [self._shape(picture, settings) for picture in pictures]
        values = stack_values(shaped, settings.value_options)
        if wanted == FIRST:
            return values
        if isinstance(values, np.ndarray):
            return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        return [np.ascontiguousarray(value.transpose(1, 2, 0)) for value in values]

    def _batch(self, key: str, values: list[np.ndarray] | np.ndarray, return_tensors: str | None) -> BatchFeature:
        """The record that a call gives back: a list of arrays, or one batch when asked for."""
        if return_tensors is None:
            return BatchFeature({key: list(values)})
        if not isinstance(values, np.ndarray):
            raise ValueError(
                f"pictures of different sizes ({', '.join(str(value.shape) for value in values[:4])} ...) do not make "
                "one batch; set do_resize=True, or leave return_tensors out to get a list"
            )
        return BatchFeature({key: values}, tensor_type=return_tensors)

    def _shape(self, picture: Image.Image | np.ndarray, settings: Settings) -> tuple[np.ndarray, bool]:
        """Bring one picture to its size: [h, w, C], and whether its 255 stands for 1.0."""
        fractions = False
        crop = height_and_width(settings.crop_size, "crop_size") if settings.do_center_crop else None
        if settings.do_resize:
            width, height = picture.size if isinstance(picture, Image.Image) else picture.shape[1::-1]
            if self.takes_shortest_edge:
                height, width = target_size(settings.size, height, width)
            else:
                height, width = height_and_width(settings.size)
            keep = middle(height, width, *crop) if crop else None
            picture, fractions = resize(picture, height, width, settings.resample, settings.resize_with, keep)
        elif settings.do_rescale and isinstance(picture, np.ndarray):
            check_range(picture)
        array = np.asarray(picture)
        return (center_crop(array, *crop, is_rest_first=self.is_rest_first) if crop else array), fractions

    def _warn_of_fractions(self, pictures: list[Image.Image | np.ndarray]) -> None:
        if self._warned_of_fractions:
            return
        for picture in pictures:
            if isinstance(picture, Image.Image) or picture.dtype == np.uint8:
                continue
            if picture.min() >= 0 and picture.max() <= 1:
                self._warned_of_fractions = True
                warnings.warn(
                    "pixel values lie in 0..1 already and are divided by 255 once more; if that is not meant, "
                    "give do_rescale=False",
                    stacklevel=4,
                )
                return

    # -- files

    @classmethod
    def option_names(cls) -> list[str]:
        """What the constructor knows: the documented options, and those of ours."""
        return [*(name for name in inspect.signature(cls).parameters if name != "kwargs"), *cls.extras]

    def to_dict(self) -> dict[str, Any]:
        """All options, in the form in which they are written."""
        options = {
            name: _plain(value)
            for name, value in vars(self).items()
            if not name.startswith("_") and not (name in self.extras and value == self.extras[name])
        }
        return {**options, "image_processor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> list[str]:
        """Write preprocessor_config.json into a folder, which is made if need be; gives its path in a list."""
        path = Path(save_directory) / PREPROCESSOR_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json_string(), encoding="utf-8")
        return [str(path)]

    @classmethod
    def from_dict(cls, options: dict[str, Any], return_unused_kwargs: bool = False, **overrides: Any) -> Any:
        """Build from options as `to_dict` gives them.

        Args:
            return_unused_kwargs: give (processor, overrides that it does not know) instead of warning of them.
        """
        known = {name: value for name, value in options.items() if name not in _NOT_OPTIONS and value is not None}
        defaults = vars(cls())
        taken = {name: value for name, value in overrides.items() if name in defaults or name in options}
        unused = {name: value for name, value in overrides.items() if name not in taken}
        processor = cls(**copy.deepcopy({**known, **taken}))
        if return_unused_kwargs:
            return processor, unused
        for name in unused:
            if name not in _WITHOUT_MEANING_HERE:
                warnings.warn(f"{cls.__name__} has no option {name!r}; it is ignored", stacklevel=2)
        return processor

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Load from a folder, a hub name or a JSON file; keywords override what is written there.

        Raises:
            ModelNotFoundError: no such model, or it has no file for an image processor.
            CheckpointError: the file is damaged.
        """
        from onlooker.hub import split_hub_options

        hub_options, overrides = split_hub_options(kwargs)
        options = read_options(name_or_path, files=cls.config_files, sections=cls.config_sections, **hub_options)
        return cls.from_dict(options, **overrides)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def stack_values(shaped: list[tuple[np.ndarray, bool]], value_options: dict[str, Any]) -> list[np.ndarray] | np.ndarray:
    """Values of pictures [h, w, C]: one array [N, C, h, w], or a list when their sizes differ."""
    if len({picture.shape for picture, _ in shaped}) > 1:
        return [model_values(picture, fractions=fractions, **value_options) for picture, fractions in shaped]
    height, width, channels = shaped[0][0].shape
    batch = np.empty((len(shaped), channels, height, width), dtype=np.float32)
    for row, (picture, fractions) in zip(batch, shaped):
        model_values(picture, fractions=fractions, **value_options, out=row)
    return batch


def _plain(value: Any) -> Any:
    """Tuples and arrays in the form JSON has for them."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return copy.deepcopy(value)
