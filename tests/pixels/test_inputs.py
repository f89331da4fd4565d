"""What counts as a picture, how its channels are found, and what is refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onlooker.errors import MediaError
from onlooker.pixels import BlipImageProcessor

MEDIA = Path(__file__).parents[1] / "data" / "media"
PHOTO = MEDIA / "gray.jpg"
RAW = {"do_resize": False, "do_rescale": False, "do_normalize": False}  # values as they came


@pytest.fixture
def processor() -> BlipImageProcessor:
    return BlipImageProcessor(size=16)


def test_every_way_to_give_a_file_gives_the_same_values(processor):
    expected = processor(PHOTO, return_tensors="np")["pixel_values"]
    data = PHOTO.read_bytes()
    for image in (str(PHOTO), data, io.BytesIO(data), [PHOTO], [[data]], (str(PHOTO),), Image.open(PHOTO)):
        assert (processor(image, return_tensors="np")["pixel_values"] == expected).all()


def test_kinds_can_be_mixed_in_one_list(processor):
    rgb = np.asarray(Image.open(PHOTO).convert("RGB"))
    images = [PHOTO, [rgb, torch.from_numpy(rgb.copy()).permute(2, 0, 1)], rgb[None], Image.open(PHOTO)]
    values = processor(images, return_tensors="np")["pixel_values"]
    assert values.shape == (5, 3, 16, 16)
    assert (values == values[:1]).all()


def test_the_first_axis_is_channels_where_both_ends_could_be():
    array = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    values = BlipImageProcessor(**RAW)(array)["pixel_values"][0]
    assert (values == array).all()
    forced = BlipImageProcessor(**RAW)(array, input_data_format="channels_last")["pixel_values"][0]
    assert (forced == array.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (7, 1), (3, 3)])  # width x height
def test_pillow_pictures_of_any_height_keep_their_channels_last(size):
    image = Image.new("RGB", size, (10, 20, 30))
    values = BlipImageProcessor(**RAW)(image)["pixel_values"][0]
    assert values.shape == (3, size[1], size[0])
    assert [plane.max() for plane in values] == [10, 20, 30]
    assert BlipImageProcessor(size=8)(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 8, 8)


def test_without_a_wanted_format_the_first_pictures_is_kept():
    array = np.zeros((4, 5, 3), np.uint8)
    for image, shape in (
        (array, (4, 5, 3)),
        (array.transpose(2, 0, 1), (3, 4, 5)),
        (Image.fromarray(array), (4, 5, 3)),
    ):
        assert BlipImageProcessor(do_resize=False)(image, data_format=None)["pixel_values"][0].shape == shape


def test_tensors_that_need_gradients_and_bfloat16_are_read(processor):
    values = processor(torch.full((3, 8, 8), 128.0).requires_grad_())["pixel_values"][0]
    assert (processor(torch.full((3, 8, 8), 128.0, dtype=torch.bfloat16))["pixel_values"][0] == values).all()


@pytest.mark.parametrize("return_tensors", ["pt", "np", None])
def test_values_come_as_asked_for(processor, return_tensors):
    values = processor([PHOTO, PHOTO], return_tensors=return_tensors)["pixel_values"]
    kind = {"pt": torch.Tensor, "np": np.ndarray, None: list}[return_tensors]
    assert type(values) is kind
    assert tuple(values[1].shape) == (3, 16, 16)
    assert str(values[1].dtype) in ("torch.float32", "float32")


def test_pictures_of_different_sizes_need_a_list():
    images = [np.zeros((4, 5, 3), np.uint8), np.zeros((6, 5, 3), np.uint8)]
    processor = BlipImageProcessor(do_resize=False)
    assert [value.shape for value in processor(images)["pixel_values"]] == [(3, 4, 5), (3, 6, 5)]
    with pytest.raises(ValueError, match="do_resize=True"):
        processor(images, return_tensors="pt")


@pytest.mark.parametrize(
    "images", [None, 3, [], [[]], [None], {"image": 1}, [[1, 2], [3, 4]], np.zeros((4, 4)), np.zeros((1, 1, 4, 4, 3))]
)
def test_what_is_no_picture_is_a_value_error(processor, images):
    with pytest.raises(ValueError, match="picture"):
        processor(images)


@pytest.mark.parametrize("array", [np.zeros((8, 8, 2), np.uint8), np.zeros((2, 8, 8), np.uint8)])
def test_channels_that_cannot_be_told_are_a_value_error(processor, array):
    with pytest.raises(ValueError, match="input_data_format"):
        processor(array)


def test_gray_pillow_pictures_that_may_not_become_rgb_are_refused(processor):
    with pytest.raises(ValueError, match="load_image"):
        processor(Image.new("L", (8, 8)), do_convert_rgb=False)


@pytest.mark.parametrize("value", [-1, 256, 12.5, np.nan])
def test_values_that_8_bits_cannot_hold_are_refused(processor, value):
    array = np.zeros((8, 8, 3))
    array[0, 0, 0], array[0, 0, 1] = value, 200.0
    with pytest.raises(ValueError, match="pixel values run from"):
        processor(array)


def test_missing_and_damaged_files_are_named(processor):
    with pytest.raises(FileNotFoundError, match="no such file: nowhere.png"):
        processor("nowhere.png")
    with pytest.raises(MediaError, match=r"not_an_image\.jpg"):
        processor([PHOTO, MEDIA / "not_an_image.jpg"])


def test_fractions_are_warned_of_once():
    processor = BlipImageProcessor(size=8)
    black = np.zeros((8, 8, 3), np.float32)
    with pytest.warns(UserWarning, match="do_rescale=False"):
        processor(black)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(black)
        BlipImageProcessor(size=8)(black, do_rescale=False)
        BlipImageProcessor(size=8)(black.astype(np.uint8))


def test_pillow_pictures_that_would_be_clipped_are_warned_of(processor):
    with pytest.warns(UserWarning, match="load_image"):
        processor(Image.new("I", (8, 8), 40000))
    scaled = processor(MEDIA / "gray16.png")["pixel_values"][0]
    assert np.unique(scaled.round(3)).size > 30  # clipped, all but black would be white
