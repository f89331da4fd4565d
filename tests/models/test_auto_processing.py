"""AutoProcessor and AutoTokenizer pick the class from the files of a folder."""

from __future__ import annotations

import pytest

from onlooker.auto_processing import AutoProcessor, AutoTokenizer
from onlooker.errors import ModelNotFoundError
from onlooker.models.blip2.processor import Blip2Processor
from onlooker.pixels import (
    BlipImageProcessor,
    InstructBlipVideoImageProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaVideoProcessor,
)
from onlooker.text import Tokenizer
from tests.text.trained import TEXTS, slow_opt, word_pieces, write

PIXELS = {"image_processor_type": "BlipImageProcessor", "size": {"height": 8, "width": 8}}


@pytest.fixture
def folder(tmp_path):
    slow_opt(tmp_path)
    write(tmp_path / "preprocessor_config.json", PIXELS)
    return tmp_path


@pytest.mark.parametrize("filename", ["processor_config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_processor_class_is_read_wherever_it_is_written(folder, filename):
    content = PIXELS if filename == "preprocessor_config.json" else {}
    if filename == "tokenizer_config.json":
        content = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "add_bos_token": True}
    write(folder / filename, {**content, "processor_class": "Blip2Processor"})
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is Blip2Processor and processor.image_processor.size["height"] == 8


def test_model_type_stands_in_for_the_class(folder):
    write(folder / "config.json", {"model_type": "blip-2"})
    assert type(AutoProcessor.from_pretrained(folder, num_query_tokens=4)) is Blip2Processor
    assert AutoProcessor.from_pretrained(folder, num_query_tokens=4).num_query_tokens == 4


def test_folder_with_one_part_gives_that_part(tmp_path):
    write(tmp_path / "a" / "preprocessor_config.json", {**PIXELS, "processor_class": "Blip2Processor"})
    assert type(AutoProcessor.from_pretrained(tmp_path / "a")) is BlipImageProcessor
    word_pieces(tmp_path / "b")
    assert type(AutoProcessor.from_pretrained(tmp_path / "b")) is Tokenizer


@pytest.mark.parametrize(
    ("filename", "name", "expected"),
    [
        ("preprocessor_config.json", "VideoLlavaImageProcessor", VideoLlavaImageProcessor),
        ("video_preprocessor_config.json", "VideoLlavaVideoProcessor", VideoLlavaVideoProcessor),
        ("preprocessor_config.json", "InstructBlipVideoImageProcessor", InstructBlipVideoImageProcessor),
        ("video_preprocessor_config.json", "InstructBlipVideoVideoProcessor", InstructBlipVideoImageProcessor),
    ],
)
def test_folder_with_pixels_alone_gives_the_processor_of_pixels(tmp_path, filename, name, expected):
    kind = "video_processor_type" if filename.startswith("video") else "image_processor_type"
    write(tmp_path / filename, {kind: name, "image_mean": 0.5})
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(processor) is expected and processor.image_mean == 0.5


def test_auto_tokenizer_gives_the_tokenizer(folder):
    tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=True, padding_side="left")
    assert type(tokenizer) is Tokenizer and tokenizer.padding_side == "left"
    batch = tokenizer([TEXTS[0], "a"], padding=True, return_tensors="pt")
    assert batch.input_ids.shape == batch.attention_mask.shape


def test_what_cannot_be_picked_is_an_error(folder, tmp_path):
    with pytest.raises(ValueError, match=r"has model_type None and no processor_class; processors are Blip2Processor"):
        AutoProcessor.from_pretrained(folder)
    write(folder / "processor_config.json", {"processor_class": "CLIPProcessor"})
    with pytest.raises(ValueError, match=r"has processor_class 'CLIPProcessor'; processors are"):
        AutoProcessor.from_pretrained(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"neither preprocessor_config.json nor a tokenizer"):
        AutoProcessor.from_pretrained(tmp_path / "empty")
    with pytest.raises(ModelNotFoundError):
        AutoProcessor.from_pretrained(tmp_path / "nowhere")
    for auto in (AutoProcessor, AutoTokenizer):
        with pytest.raises(TypeError, match="from_pretrained"):
            auto()
