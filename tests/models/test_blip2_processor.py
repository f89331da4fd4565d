"""Blip2Processor gives the reference's correct results, and refuses what would be silently wrong."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from onlooker.models.blip2.processor import Blip2Processor
from onlooker.pixels import BlipImageProcessor
from onlooker.text import Tokenizer
from tests.text.trained import SAVED, TEXTS, slow_opt, write

QUERIES = 5
SIZE = {"height": 12, "width": 10}
KINDS = ("opt", "t5", "bert", "llama")


def picture(seed=0, height=17, width=23):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save_reference(folder, kind="opt", num_query_tokens=QUERIES):
    SAVED[kind](folder / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    images = transformers.BlipImageProcessor(size=SIZE)
    transformers.Blip2Processor(images, tokenizer, num_query_tokens=num_query_tokens).save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="session", params=KINDS)
def folder(request, tmp_path_factory):
    return save_reference(tmp_path_factory.mktemp(f"processor_{request.param}"), request.param)


@pytest.fixture(scope="session")
def opt_folder(tmp_path_factory):
    return save_reference(tmp_path_factory.mktemp("processor"))


@pytest.fixture
def processor(opt_folder):
    return Blip2Processor.from_pretrained(opt_folder)


def equal(ours, theirs):
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        given = ours[name]
        assert type(given) is type(expected), name
        if isinstance(expected, (torch.Tensor, np.ndarray)):
            assert given.dtype == expected.dtype and given.shape == expected.shape, name
        if name == "pixel_values":
            np.testing.assert_allclose(np.asarray(given), np.asarray(expected), atol=1e-6)
        else:
            assert [list(row) for row in given] == [list(row) for row in expected], name


# The reference, where it is right.


@pytest.mark.parametrize("kind", [None, "pt", "np"])
def test_prompt_and_picture_are_the_same(folder, kind):
    ours, theirs = Blip2Processor.from_pretrained(folder), transformers.Blip2Processor.from_pretrained(folder)
    images = [picture(seed) for seed in range(3)]
    equal(ours(images[0], TEXTS[0], return_tensors=kind), theirs(images[0], TEXTS[0], return_tensors=kind))
    for side, cut in itertools.product(("left", "right"), repeat=2):
        for one in (ours, theirs):
            one.tokenizer.padding_side, one.tokenizer.truncation_side = side, cut
            one.tokenizer.pad_token = one.tokenizer.pad_token or one.tokenizer.eos_token
        for options in (
            {"padding": True},
            {"padding": "max_length", "max_length": 80},
            {"padding": True, "truncation": True, "max_length": 14},
            {"padding": "max_length", "truncation": True, "max_length": QUERIES + 2},
            {"padding": True, "pad_to_multiple_of": 8, "padding_side": "left"},
            {"padding": True, "add_special_tokens": False},
        ):
            given = {"images": images, "text": TEXTS[:3], "return_tensors": kind, **options}
            equal(ours(**given), theirs(**given))


def test_text_alone_and_picture_alone_are_the_same(folder):
    ours, theirs = Blip2Processor.from_pretrained(folder), transformers.Blip2Processor.from_pretrained(folder)
    for text in ("", TEXTS[0], TEXTS[:2]):
        equal(ours(text=text), theirs(text=text))
    for images in (picture(), [picture(0), picture(1)]):
        for kind in (None, "pt", "np"):
            equal(ours(images=images, return_tensors=kind), theirs(images=images, return_tensors=kind))
    equal(ours(picture(), ""), theirs(picture(), ""))
    assert ours.model_input_names == theirs.model_input_names


def test_options_reach_their_part_flat_or_nested(processor, opt_folder):
    theirs = transformers.Blip2Processor.from_pretrained(opt_folder)
    flat = {"do_resize": False, "padding": "max_length", "max_length": 40, "return_tensors": "np"}
    nested = {
        "images_kwargs": {"do_resize": False},
        "text_kwargs": {"padding": "max_length", "max_length": 40},
        "common_kwargs": {"return_tensors": "np"},
    }
    expected = processor(picture(), TEXTS[0], **flat)
    assert expected.pixel_values.shape == (1, 3, 17, 23) and expected.input_ids.shape == (1, 40)
    equal(processor(picture(), TEXTS[0], **nested), expected)
    equal(expected, theirs(picture(), TEXTS[0], **flat))
    with pytest.raises(TypeError, match="unknown option 'max_lenght'; did you mean 'max_length'"):
        processor(picture(), TEXTS[0], max_lenght=40)
    with pytest.raises(TypeError, match=r"text_kwargs: unknown option 'do_resize'"):
        processor(picture(), TEXTS[0], text_kwargs={"do_resize": False})
    with pytest.raises(ValueError, match="padding was given twice, as True and in text_kwargs as False"):
        processor(picture(), TEXTS[0], padding=True, text_kwargs={"padding": False})


def test_extra_text_columns_cover_the_placeholders(processor):
    columns = ("return_token_type_ids", "return_special_tokens_mask", "return_offsets_mapping", "return_length")
    batch = processor(picture(), TEXTS[0], **dict.fromkeys(columns, True))
    length = len(batch.input_ids[0])
    assert batch.length == [length]
    for name in ("attention_mask", "token_type_ids", "special_tokens_mask", "offset_mapping"):
        assert len(batch[name][0]) == length
    assert "attention_mask" not in processor(picture(), TEXTS[0], return_attention_mask=False)


def test_result_moves_and_casts_floats_only(processor):
    batch = processor(picture(), TEXTS[0], return_tensors="pt").to("cpu", torch.float16)
    assert batch.pixel_values.dtype == torch.float16 and batch.input_ids.dtype == torch.int64


def test_decoding_is_the_tokenizers(processor):
    batch = processor([picture()] * 2, TEXTS[:2], padding=True, return_tensors="pt")
    assert processor.batch_decode(batch.input_ids, skip_special_tokens=True) == TEXTS[:2]
    assert processor.decode(batch.input_ids[0], skip_special_tokens=True) == TEXTS[0]
    assert processor.post_process_image_text_to_text(batch.input_ids) == TEXTS[:2]


# Placeholders.


def test_placeholders_stand_first_before_pads_and_start_token(processor):
    processor.tokenizer.padding_side = "left"
    batch = processor([picture()] * 2, [TEXTS[0], TEXTS[1]], padding=True, return_tensors="pt")
    image, pad = processor.image_token_id, processor.tokenizer.pad_token_id
    assert (batch.input_ids[:, :QUERIES] == image).all() and (batch.attention_mask[:, :QUERIES] == 1).all()
    assert (batch.input_ids == image).sum() == 2 * QUERIES
    assert batch.input_ids[0, QUERIES] == pad and batch.attention_mask[0, QUERIES] == 0


def test_num_query_tokens_set_later_counts(processor):
    processor.num_query_tokens = 7
    assert processor(picture(), "a")["input_ids"][0].count(processor.image_token_id) == 7
    processor.num_query_tokens = 0
    with pytest.raises(ValueError, match="num_query_tokens is 0"):
        processor(picture(), "a")


def test_max_length_counts_placeholders_only_when_there_are_some(processor):
    options = {"truncation": True, "max_length": 9}
    assert len(processor(picture(), TEXTS[1], **options)["input_ids"][0]) == 9
    assert len(processor(text=TEXTS[1], **options)["input_ids"][0]) == 9
    for max_length in (QUERIES, 1):
        with pytest.raises(ValueError, match=f"max_length is {max_length}, but {QUERIES} placeholders .*Give 6"):
            processor(picture(), TEXTS[1], truncation=True, max_length=max_length)


def test_vocabulary_without_the_placeholder_gets_it(tmp_path):
    SAVED["opt"](tmp_path)
    tokenizer = Tokenizer.from_pretrained(tmp_path)
    size = len(tokenizer)
    processor = Blip2Processor(BlipImageProcessor(), tokenizer, num_query_tokens=2)
    assert (processor.image_token_id, len(tokenizer)) == (size, size + 1)
    assert tokenizer.tokenize("a<image>b") == ["a", "<image>", "b"]
    Blip2Processor(BlipImageProcessor(), tokenizer, num_query_tokens=2)
    assert len(tokenizer) == size + 1


def test_tokenizer_with_an_image_token_of_its_own_keeps_it(tmp_path):
    SAVED["opt"](tmp_path)
    tokenizer = Tokenizer.from_pretrained(tmp_path, extra_special_tokens={"image_token": "<s>"})
    size = len(tokenizer)
    processor = Blip2Processor(BlipImageProcessor(size=SIZE), tokenizer, num_query_tokens=3)
    assert (str(processor.image_token), processor.image_token_id, len(tokenizer)) == ("<s>", 0, size)
    assert processor(picture(), "a")["input_ids"][0][:3] == [0, 0, 0]


# Never silently wrong.


def test_neither_pictures_nor_text_is_an_error(processor):
    with pytest.raises(ValueError, match=r"^You have to specify either images or text\.$"):
        processor()


@pytest.mark.parametrize("text", [3, ["a", 3], [["a"]], b"a", {"a": 1}], ids=str)
def test_text_that_is_no_text_is_an_error(processor, text):
    with pytest.raises(ValueError, match=r"Invalid input text: .*Please provide a string, or a list of strings\."):
        processor(picture(), text)


def test_swapped_arguments_are_an_error(processor):
    with pytest.raises(ValueError, match="Invalid input text: Image"):
        processor("a photo of", picture())


def test_no_texts_at_all_is_an_error(processor):
    with pytest.raises(ValueError, match="list of texts is empty"):
        processor(picture(), [])


@pytest.mark.parametrize("images", [[0, 1], [[0], [1]], [[0, 1]]], ids=str)
def test_two_pictures_for_one_prompt_is_an_error(processor, images):
    given = [[picture(i) for i in row] if isinstance(row, list) else picture(row) for row in images]
    with pytest.raises(ValueError, match="2 pictures for 1 prompt: this family takes one picture for each prompt"):
        processor(given, TEXTS[0])


def test_more_prompts_than_pictures_is_an_error(processor):
    with pytest.raises(ValueError, match=r"3 prompts for 1 picture: .*repeat it: images=\[image\] \* len\(text\)"):
        processor(picture(), TEXTS[:3], padding=True)


def test_placeholders_in_a_prompt_that_gets_its_own_are_an_error(processor):
    with pytest.raises(ValueError, match=r"Prompt 1 holds 2 <image> tokens, but the processor writes the 5"):
        processor([picture()] * 2, ["a", "<image><image>b"])
    assert processor(text="<image>a")["input_ids"][0].count(processor.image_token_id) == 1


@pytest.mark.parametrize("given", ["text", "both"])
def test_truncation_that_cuts_placeholders_is_an_error(processor, given):
    processor.num_query_tokens = None  # prompts with placeholders made by hand
    images = {"images": picture()} if given == "both" else {}
    prompt = "<image>" * 6 + "a photo"
    assert processor(text=prompt, **images)["input_ids"][0].count(processor.image_token_id) == 6
    with pytest.raises(ValueError, match=r"Truncation cut placeholders: prompt 0 has 6 <image> tokens and 3 of them"):
        processor(text=prompt, **images, truncation=True, max_length=4)


def test_rows_of_unequal_length_as_tensors_say_what_to_do(processor):
    with pytest.raises(ValueError, match="input_ids has rows of .* tokens .* padding=True"):
        processor([picture()] * 2, TEXTS[:2], return_tensors="pt")


# Files.


def test_saved_by_us_loads_in_transformers(processor, tmp_path, opt_folder):
    processor.chat_template = "{{ messages }}"
    processor.tokenizer.padding_side = "left"
    processor.save_pretrained(tmp_path)
    theirs, again = transformers.AutoProcessor.from_pretrained(tmp_path), Blip2Processor.from_pretrained(tmp_path)
    assert type(theirs) is transformers.Blip2Processor
    given = {"images": [picture(0), picture(1)], "text": TEXTS[:2], "padding": True, "return_tensors": "pt"}
    equal(processor(**given), theirs(**given))
    equal(again(**given), theirs(**given))
    assert theirs.num_query_tokens == again.num_query_tokens == QUERIES
    # the reference's class drops a template of its own, its tokenizer keeps it
    assert theirs.tokenizer.chat_template == again.chat_template == "{{ messages }}"
    assert len(theirs.tokenizer) == len(again.tokenizer) == len(processor.tokenizer)
    assert again.to_dict() == transformers.Blip2Processor.from_pretrained(opt_folder).to_dict()


def test_nested_processor_file_loads(opt_folder, tmp_path):
    theirs = transformers.Blip2Processor.from_pretrained(opt_folder)
    theirs.tokenizer.save_pretrained(tmp_path)
    nested = {"image_processor": theirs.image_processor.to_dict(), "num_query_tokens": 3}
    write(tmp_path / "processor_config.json", nested | {"processor_class": "Blip2Processor"})
    ours = Blip2Processor.from_pretrained(tmp_path)
    assert ours.num_query_tokens == 3 and ours.image_processor.size == SIZE


def test_overrides_reach_their_part_on_loading(opt_folder):
    processor = Blip2Processor.from_pretrained(opt_folder, num_query_tokens=2, size=6, padding_side="left")
    assert processor(picture(), "a", return_tensors="pt").pixel_values.shape == (1, 3, 6, 6)
    assert (processor.num_query_tokens, processor.tokenizer.padding_side) == (2, "left")


def test_older_folder_works_with_one_warning(tmp_path):
    """No processor_config.json, no <image> in the vocabulary, slow vocabulary files."""
    slow_opt(tmp_path)
    write(tmp_path / "preprocessor_config.json", {"image_processor_type": "BlipImageProcessor", "size": 8})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor = Blip2Processor.from_pretrained(tmp_path)
        assert processor.num_query_tokens is None
        processor(images=picture())
        processor(text=TEXTS[0])
    with pytest.warns(UserWarning, match="no num_query_tokens .* the model puts the picture's features") as seen:
        batch = processor(picture(), TEXTS[0], truncation=True, max_length=9, return_tensors="pt")
        processor(picture(), TEXTS[0])
    assert len(seen) == 1
    assert batch.input_ids.tolist() == [processor.tokenizer.encode(TEXTS[0])[:9]]


def test_processor_copies_and_pickles(processor):
    for twin in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert twin(picture(), TEXTS[0])["input_ids"] == processor(picture(), TEXTS[0])["input_ids"]


def test_saved_files_are_those_of_the_layout(processor, tmp_path):
    written = processor.save_pretrained(tmp_path)
    names = {"preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.rsplit("/", 1)[1] for path in written} == names | {"special_tokens_map.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"special_tokens_map.json"}
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings == {"num_query_tokens": QUERIES, "processor_class": "Blip2Processor"}
