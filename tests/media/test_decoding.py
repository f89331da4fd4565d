"""Pictures of every stored form decode to the right RGB; facts come from another decoder (ffmpeg), not from ours."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlooker.media import load_image, open_image

MEDIA = Path(__file__).parents[1] / "data" / "media"

# file: (height, width), {(row, column): RGB}, tolerance.  Read with ffmpeg's decoders; 16-bit values divided by 257,
# alpha put on white by hand.  JPEG and AVIF decoders may differ by some levels.
FACTS = {
    "gray.jpg": ((128, 128), {(0, 0): (26, 26, 26), (64, 64): (99, 99, 99), (32, 96): (122, 122, 122)}, 2),
    "gray16.png": (
        (128, 128),
        {(0, 0): (255,) * 3, (64, 64): (126,) * 3, (127, 127): (0,) * 3, (32, 96): (191,) * 3},
        1,
    ),
    "rgb16.png": ((128, 128), {(0, 0): (1, 1, 254), (64, 64): (128, 128, 127), (32, 96): (192, 65, 63)}, 1),
    "la8.png": (
        (128, 128),
        {(0, 0): (254,) * 3, (64, 64): (191,) * 3, (127, 127): (253,) * 3, (32, 96): (110,) * 3},
        1,
    ),
    "palette.png": ((10, 10), {(0, 0): (51, 0, 255), (5, 5): (102, 51, 255), (2, 7): (153, 51, 153)}, 0),
    "palette_trns.png": ((64, 64), {(0, 0): (255, 0, 0), (32, 32): (255, 255, 255), (16, 48): (0, 255, 209)}, 0),
    "progressive_cat.jpg": ((240, 320), {(0, 0): (142, 151, 114), (120, 160): (212, 217, 228)}, 4),
    "elephant.jpg": ((480, 660), {(0, 0): (127, 152, 215), (120, 495): (212, 180, 175)}, 4),
    "hopper.webp": ((128, 128), {(0, 0): (20, 20, 59), (64, 64): (168, 82, 50)}, 4),
    "paris.avif": ((302, 403), {(0, 0): (113, 163, 214), (151, 201): (229, 191, 155)}, 4),
    "cmyk.jpg": ((100, 100), {(0, 0): (253, 13, 24), (99, 99): (0, 4, 3)}, 5),
    "animated_transparent.gif": ((32, 38), {(0, 0): (255,) * 3, (16, 19): (239, 186, 25)}, 0),
    "apng_ball.png": ((100, 100), {(0, 0): (255,) * 3, (50, 50): (227, 227, 50)}, 0),
    "animated.avif": ((150, 150), {(75, 75): (0, 0, 0)}, 0),
}


@pytest.mark.parametrize("name", sorted(FACTS))
def test_every_stored_form_decodes_to_the_right_rgb(name):
    size, pixels, tolerance = FACTS[name]
    picture = load_image(MEDIA / name)
    assert picture.dtype == np.uint8
    assert picture.shape == (*size, 3)
    assert picture.flags.writeable
    for (row, column), rgb in pixels.items():
        assert np.abs(picture[row, column].astype(int) - rgb).max() <= tolerance, (row, column)


def test_sixteen_bit_gray_keeps_its_levels():
    picture = load_image(MEDIA / "gray16.png")
    assert len(np.unique(picture)) > 100  # clipped to 8 bits, two would be left


def test_exif_orientation_5_is_undone():
    stored = load_image(MEDIA / "paris.avif")  # the same photo, stored upright
    turned = load_image(MEDIA / "exif5_paris.jpg")  # stored 403 wide, 302 high, to be mirrored along its diagonal
    assert turned.shape == (403, 302, 3)
    assert np.abs(turned.astype(int) - stored.transpose(1, 0, 2)).mean() < 5


def test_exif_orientation_of_webp_is_undone():
    upright = load_image(MEDIA / "hopper.webp")
    turned = load_image(MEDIA / "exif6_hopper.webp")
    assert np.abs(turned.astype(int) - upright).mean() < 5


def test_pillow_images_with_exif_are_turned_and_left_as_they_are():
    with Image.open(MEDIA / "exif5_paris.jpg") as image:
        assert load_image(image).shape == (403, 302, 3)
        assert image.size == (403, 302)  # width x height, as stored


def test_of_an_animation_the_first_frame_is_taken():
    with Image.open(MEDIA / "animated_flower.webp") as image:
        image.seek(0)
        first = np.asarray(image.convert("RGB"))
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB"))
    picture = load_image(MEDIA / "animated_flower.webp")
    assert (picture == first).all()
    assert (picture != last).any()


def test_the_content_decides_and_not_the_name(tmp_path):
    for name in ("no_extension", "palette.jpg", "12:30.mp4", "a%03d.png", "- x.gif"):
        shutil.copy(MEDIA / "palette.png", tmp_path / name)
        assert (load_image(tmp_path / name) == load_image(MEDIA / "palette.png")).all()


def test_open_image_turns_but_drops_alpha():
    image = open_image(MEDIA / "palette_trns.png")
    assert image.mode == "RGB"
    assert image.getpixel((32, 32)) == (0, 255, 52)  # the colour under a pixel of alpha 0
    assert open_image(MEDIA / "exif5_paris.jpg").size == (302, 403)


def test_palettes_with_several_transparent_colours_are_read_without_a_warning():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=bytes([0, 128]))
    assert np.asarray(open_image(file.getvalue())).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert load_image(file.getvalue()).tolist() == [[[255, 255, 255], [147, 152, 157]]]  # half of each, half white


def test_open_image_gives_pillow_images_back_as_they_are():
    image = Image.new("RGBA", (4, 5))
    assert open_image(image) is image


def test_alpha_of_pillow_images_is_put_on_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert load_image(image).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("mode", "value", "gray"), [("I", 65535, 255), ("I", 200, 200), ("F", 0.5, 128), ("1", 1, 255)]
)
def test_pillow_images_of_unusual_modes_are_scaled(mode, value, gray):
    assert load_image(Image.new(mode, (2, 2), value))[0, 0].tolist() == [gray] * 3


def test_heic_decodes_where_pillow_heif_is_installed():
    pytest.importorskip("pillow_heif")
    picture = load_image(MEDIA / "pug.heic")
    assert picture.shape == (64, 64, 3)
    assert (picture[..., 0] == picture[..., 1]).all()  # a gray photo
