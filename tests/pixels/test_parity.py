"""Pixel values equal those of the reference's slow BlipImageProcessor to 1e-6, whatever the options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.blip.image_processing_blip import BlipImageProcessor as Reference

from onlooker.pixels import BlipImageProcessor

MEDIA = Path(__file__).parents[1] / "data" / "media"
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "HSV", "PA", "RGBX")


def random_array(rng: np.random.Generator, channels: int = 3) -> np.ndarray:
    height, width = rng.integers(4, 90, 2)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def random_pillow(rng: np.random.Generator) -> Image.Image:
    mode = MODES[rng.integers(len(MODES))]
    return Image.fromarray(random_array(rng)).convert(mode if mode not in ("PA", "RGBX") else "RGB").convert(mode)


def random_image(rng: np.random.Generator, scaled: bool):
    """One picture of a random kind; `scaled` ones hold fractions of 1."""
    kind = rng.choice(["pillow", "last", "first", "torch", "int64", "float32"])
    if kind == "pillow" and not scaled:
        return random_pillow(rng)
    array = random_array(rng)
    if scaled:
        array = rng.random(array.shape).astype(rng.choice([np.float32, np.float64]))  # between the 8-bit levels too
    elif kind in ("int64", "float32"):
        array = array.astype(kind)
    if kind in ("first", "torch"):
        array = array.transpose(2, 0, 1)
    return torch.from_numpy(array.copy()) if kind == "torch" else array


def random_options(rng: np.random.Generator, scaled: bool) -> dict:
    options = {
        "do_resize": bool(rng.random() < 0.8),
        "size": {"height": int(rng.integers(3, 70)), "width": int(rng.integers(3, 70))},
        "resample": int(rng.integers(6)),
        # fractions with do_rescale on are warned of; that has its own test
        "do_rescale": not scaled and bool(rng.random() < 0.7),
        "rescale_factor": float(rng.choice([1 / 255, 1 / 127.5, 0.1])),
        "do_normalize": bool(rng.random() < 0.7),
    }
    if rng.random() < 0.5:
        options["image_mean"] = [float(value) for value in rng.random(3)]
        options["image_std"] = [float(value) for value in 0.1 + rng.random(3)]
    return options


def assert_equal(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs):
        assert mine.dtype == np.float32
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(80))
def test_random_pictures_and_options_give_the_references_values(seed):
    rng = np.random.default_rng(seed)
    scaled = seed % 5 == 0
    image, options = random_image(rng, scaled), random_options(rng, scaled)
    layout = {"data_format": str(rng.choice(["channels_first", "channels_last"]))}
    if rng.random() < 0.5:  # as options of the processor or of the call: the same
        ours = BlipImageProcessor(**options)(image, **layout)
        theirs = Reference(**options)(image, **layout)
    else:
        ours = BlipImageProcessor()(image, **options, **layout)
        theirs = Reference()(image, **options, **layout)
    assert_equal(ours["pixel_values"], theirs["pixel_values"])


@pytest.mark.parametrize("mode", MODES)
def test_pillow_pictures_of_every_mode_are_bit_equal(mode):
    image = Image.fromarray(random_array(np.random.default_rng(1))).convert("RGB" if mode in ("PA", "RGBX") else mode)
    image = image.convert(mode)
    ours = BlipImageProcessor()(image, return_tensors="np")["pixel_values"]
    assert (ours == Reference()(image, return_tensors="np")["pixel_values"]).all()


@pytest.mark.parametrize(
    "name", ["elephant.jpg", "exif5_paris.jpg", "palette_trns.png", "la8.png", "hopper.webp", "cmyk.jpg"]
)
def test_files_are_bit_equal(name):
    ours = BlipImageProcessor()(str(MEDIA / name), return_tensors="pt")["pixel_values"]
    assert ours.shape == (1, 3, 384, 384)
    assert torch.equal(ours, Reference()(str(MEDIA / name), return_tensors="pt")["pixel_values"])


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts_with_one_mean_for_all(channels):
    array = random_array(np.random.default_rng(2), channels)
    options = {
        "image_mean": 0.5,
        "image_std": 0.25,
        "input_data_format": "channels_last",
        "size": {"height": 9, "width": 7},
    }
    ours, theirs = (cls()(array, **options)["pixel_values"] for cls in (BlipImageProcessor, Reference))
    assert_equal(ours, theirs)


def test_lists_nested_lists_and_batches_give_the_references_order():
    rng = np.random.default_rng(3)
    pictures = [Image.fromarray(random_array(rng)) for _ in range(3)]
    array = rng.integers(0, 256, (2, 3, 20, 30), dtype=np.uint8)
    for images in (pictures, [pictures[:2], pictures[2:]], array, torch.from_numpy(array), [array, array], list(array)):
        ours = BlipImageProcessor()(images, return_tensors="pt")["pixel_values"]
        assert torch.equal(ours, Reference()(images, return_tensors="pt")["pixel_values"])


def test_fractions_that_are_rescaled_again_are_divided_all_the_same():
    image = (random_array(np.random.default_rng(4)) / 255).astype(np.float32)
    with pytest.warns(UserWarning, match="do_rescale=False"):
        ours = BlipImageProcessor()(image)["pixel_values"]
    assert_equal(ours, Reference()(image)["pixel_values"])


def test_files_written_by_either_library_are_read_by_the_other(tmp_path):
    options = {"size": {"height": 20, "width": 30}, "resample": 2, "image_mean": [0.1, 0.2, 0.3], "do_rescale": False}
    BlipImageProcessor(**options).save_pretrained(tmp_path / "ours")
    Reference(**options).save_pretrained(tmp_path / "theirs")
    assert Reference.from_pretrained(tmp_path / "ours").to_dict() == Reference(**options).to_dict()
    assert BlipImageProcessor.from_pretrained(tmp_path / "theirs").to_dict() == BlipImageProcessor(**options).to_dict()
    written = [(tmp_path / name / "preprocessor_config.json").read_text() for name in ("ours", "theirs")]
    assert written[0] == written[1]
