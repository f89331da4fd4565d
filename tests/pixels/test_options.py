"""Options: defaults, per call, set later, written and read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from onlooker.errors import CheckpointError, ModelNotFoundError
from onlooker.pixels import BlipImageProcessor

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def shape(processor: BlipImageProcessor, **options) -> tuple[int, ...]:
    return processor(IMAGE, **options)["pixel_values"][0].shape


def test_the_defaults_are_the_documented_ones():
    assert BlipImageProcessor().to_dict() == {
        "do_resize": True,
        "size": {"height": 384, "width": 384},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
        "image_processor_type": "BlipImageProcessor",
    }


def test_known_pixels_give_hand_computed_values():
    values = BlipImageProcessor(size=2)(Image.new("RGB", (5, 5), (0, 255, 51)))["pixel_values"][0]
    expected = [(0 - 0.48145466) / 0.26862954, (1 - 0.4578275) / 0.26130258, (0.2 - 0.40821073) / 0.27577711]
    np.testing.assert_allclose(values[:, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [{"height": 7, "width": 9}, (7, 9), [7, 9]])
def test_sizes_are_taken_in_every_form(size):
    assert shape(BlipImageProcessor(size=size)) == (3, 7, 9)
    assert shape(BlipImageProcessor(), size=size) == (3, 7, 9)


def test_one_integer_is_a_square():
    assert BlipImageProcessor(size=8).size == {"height": 8, "width": 8}
    assert shape(BlipImageProcessor(), size=8) == (3, 8, 8)


@pytest.mark.parametrize(
    "size", [{"shortest_edge": 8}, {"height": 8}, {"height": 0, "width": 8}, "8", 8.5, (1, 2, 3), True]
)
def test_sizes_that_are_none_are_a_value_error(size):
    with pytest.raises(ValueError, match="size"):
        BlipImageProcessor()(IMAGE, size=size)


def test_options_of_a_call_do_not_stay():
    processor = BlipImageProcessor(size=8)
    before = processor.to_dict()
    assert shape(processor, size=5, do_normalize=False, image_mean=0.0) == (3, 5, 5)
    assert processor.to_dict() == before
    assert shape(processor) == (3, 8, 8)


def test_attributes_set_later_count():
    processor = BlipImageProcessor(size=8)
    processor.size = 5
    processor.do_normalize = False
    values = processor(IMAGE)["pixel_values"][0]
    assert values.shape == (3, 5, 5)
    assert values.min() >= 0
    processor.image_mean, processor.image_std, processor.do_normalize = 0.0, 0.5, True
    assert np.allclose(processor(IMAGE)["pixel_values"][0], 2 * values)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"image_mean": [0.5, 0.5]}, "3 channels, .* 2 values"),
        ({"image_std": [0.5, 0.5, 0.0]}, "must not be 0"),
        ({"image_mean": "none"}, "image_mean"),
        ({"data_format": "last"}, "channels_last"),
        ({"input_data_format": "NCHW"}, "channels_last"),
        ({"return_tensors": "tf"}, "return_tensors"),
        ({"resample": 99}, "99"),
    ],
)
def test_options_without_sense_are_a_value_error(options, text):
    with pytest.raises(ValueError, match=text):
        BlipImageProcessor(size=8)(IMAGE, **options)


def test_an_unknown_option_of_a_call_is_a_type_error():
    with pytest.raises(TypeError, match="do_resise"):
        BlipImageProcessor()(IMAGE, do_resise=False)


def test_saving_and_loading_keeps_every_option_and_unknown_keys(tmp_path):
    processor = BlipImageProcessor(
        size=8, resample=Image.Resampling.BILINEAR, image_mean=(0.1, 0.2, 0.3), extra={"a": 1}
    )
    processor.processor_class = "Blip2Processor"
    (path,) = processor.save_pretrained(tmp_path / "new" / "folder")
    assert path.endswith("preprocessor_config.json")
    loaded = BlipImageProcessor.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.to_dict() == processor.to_dict() == json.loads(processor.to_json_string())
    assert loaded.extra == {"a": 1}
    assert loaded.processor_class == "Blip2Processor"
    assert (loaded(IMAGE)["pixel_values"][0] == processor(IMAGE)["pixel_values"][0]).all()
    assert BlipImageProcessor.from_pretrained(path).size == {"height": 8, "width": 8}


def test_keywords_override_the_file(tmp_path):
    BlipImageProcessor(size=8).save_pretrained(tmp_path)
    loaded = BlipImageProcessor.from_pretrained(tmp_path, size=5, do_rescale=False, local_files_only=True)
    assert (loaded.size, loaded.do_rescale) == ({"height": 5, "width": 5}, False)
    _, unused = BlipImageProcessor.from_pretrained(tmp_path, do_rescale=False, foo=1, return_unused_kwargs=True)
    assert unused == {"foo": 1}
    with pytest.warns(UserWarning, match="no option 'foo'"):
        BlipImageProcessor.from_pretrained(tmp_path, foo=1)


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("preprocessor_config.json", {"size": 8}),
        ("preprocessor_config.json", {"image_processor": {"size": {"height": 8, "width": 8}}}),
        ("video_preprocessor_config.json", {"size": {"height": 8, "width": 8}, "crop_size": None}),
        ("processor_config.json", {"num_query_tokens": 32, "image_processor": {"size": 8, "do_resize": None}}),
    ],
)
def test_options_are_found_wherever_published_folders_keep_them(tmp_path, filename, content):
    (tmp_path / filename).write_text(json.dumps(content))
    processor = BlipImageProcessor.from_pretrained(tmp_path)
    assert processor.size == {"height": 8, "width": 8}
    assert shape(processor) == (3, 8, 8)


def test_the_own_file_wins_over_the_nested_section(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 8}')
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"size": 5}}')
    assert BlipImageProcessor.from_pretrained(tmp_path).size == {"height": 8, "width": 8}


def test_a_folder_without_options_says_what_was_looked_for(tmp_path):
    (tmp_path / "processor_config.json").write_text('{"num_query_tokens": 32}')
    with pytest.raises(ModelNotFoundError, match=r"preprocessor_config\.json"):
        BlipImageProcessor.from_pretrained(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    for content in ("{", "[1]"):
        (tmp_path / "preprocessor_config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
            BlipImageProcessor.from_pretrained(tmp_path)
