"""Arrays of any usual layout and type become the same uint8 RGB picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onlooker.errors import MediaError
from onlooker.media import load_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "array",
    [
        RGB,
        RGB.transpose(2, 0, 1),
        RGB.astype(np.int64),
        RGB.astype(np.float64),
        RGB.astype(np.uint16) * 257,
        (RGB / 255).astype(np.float32),
        np.dstack([RGB, np.full((6, 5), 255, np.uint8)]),
        np.dstack([RGB, np.full((6, 5), 255, np.uint8)]).transpose(2, 0, 1),
        torch.from_numpy(RGB / 255).requires_grad_(),
        torch.from_numpy(RGB.astype(np.float32)).bfloat16().float(),
    ],
)
def test_layouts_and_types_of_one_picture_agree(array):
    expected = array.numpy().astype(np.uint8) if isinstance(array, torch.Tensor) and not array.requires_grad else RGB
    assert (load_image(array) == expected).all()


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (1, 6, 5)])
def test_one_channel_is_repeated_to_three(shape):
    gray = RGB[:, :, 0]
    assert (load_image(gray.reshape(shape)) == gray[:, :, None]).all()


def test_the_first_axis_wins_where_both_ends_could_be_channels():
    array = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    assert (load_image(array) == array.transpose(1, 2, 0)).all()


def test_four_rows_are_not_taken_for_alpha():
    assert load_image(RGB[:4]).shape == (4, 5, 3)


def test_alpha_is_put_on_white():
    rgba = np.array([[[10, 20, 30, 0]], [[10, 20, 30, 255]]] * 3, np.uint8)
    assert load_image(rgba)[:2].tolist() == [[[255, 255, 255]], [[10, 20, 30]]]
    assert load_image(np.full((5, 5, 4), 51, np.uint8))[0, 0].tolist() == [214] * 3  # 51 x 0.2 + 255 x 0.8


def test_the_result_is_a_copy():
    picture = load_image(RGB)
    picture[:] = 0
    assert RGB.any()


def test_bfloat16_tensors_are_read():
    assert (load_image(torch.ones(3, 2, 2, dtype=torch.bfloat16)) == 255).all()


def test_sixteen_bits_are_rounded_to_the_nearest_level():
    levels = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)
    assert load_image(levels)[0, :, 0].tolist() == [0, 0, 1, 1, 254, 255, 255]


def test_booleans_are_black_and_white():
    assert load_image(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.full((4, 4, 3), 256), "run from 256 to 256"),
        (np.full((4, 4, 3), -0.5), "run from -0.5"),
        (np.full((4, 4, 3), np.nan), "run from nan"),
        (np.zeros((5, 5, 2)), "is not one picture"),
        (np.zeros((2, 4, 4, 3)), "is not one picture"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.full((4, 4, 3), "x"), "is not a picture"),
        (np.zeros((4, 4, 3), complex), "is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(array, text):
    with pytest.raises(MediaError, match=text):
        load_image(array)
