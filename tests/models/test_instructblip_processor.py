"""The InstructBLIP processors give the reference's correct results, and refuse what would be silently wrong."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from onlooker.auto_processing import AutoProcessor
from onlooker.errors import ModelNotFoundError
from onlooker.models.instructblip.processor import InstructBlipProcessor, InstructBlipVideoProcessor
from onlooker.pixels import BlipImageProcessor, InstructBlipVideoImageProcessor
from onlooker.text import Tokenizer
from tests.oracle import reference
from tests.text.trained import SAVED, TEXTS, write

QUERIES = 3
SIZE = {"height": 12, "width": 10}
KINDS = ("llama", "t5", "opt")


def picture(seed=0, height=17, width=23):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip(frames=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, 17, 23, 3), dtype=np.uint8)


def save_released(folder, kind="llama", name="InstructBlipProcessor"):
    """As the released checkpoints are: pictures only, <image> in the vocabulary, two tokenizers."""
    SAVED[kind](folder / "text")
    SAVED["bert"](folder / "qformer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "text")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    processor = transformers.InstructBlipProcessor(
        transformers.BlipImageProcessor(size=SIZE),
        tokenizer,
        transformers.AutoTokenizer.from_pretrained(folder / "qformer"),
        num_query_tokens=QUERIES,
    )
    processor.save_pretrained(folder / "saved")
    write(folder / "saved" / "processor_config.json", {"num_query_tokens": QUERIES, "processor_class": name})
    return folder / "saved"


@pytest.fixture(scope="session", params=KINDS)
def pictures_folder(request, tmp_path_factory):
    return save_released(tmp_path_factory.mktemp(f"instructblip_{request.param}"), request.param)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    return save_released(tmp_path_factory.mktemp("instructblip"))


@pytest.fixture(scope="session", params=KINDS)
def clips_folder(request, tmp_path_factory):
    """As the reference writes the video kind: <video> in the vocabulary, video_preprocessor_config.json."""
    folder = tmp_path_factory.mktemp(f"instructblipvideo_{request.param}")
    source = save_released(folder, request.param)
    tokenizer = Tokenizer.from_pretrained(folder / "text")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    processor = InstructBlipVideoProcessor(
        InstructBlipVideoImageProcessor(size=SIZE), tokenizer, Tokenizer.from_pretrained(folder / "qformer"), QUERIES
    )
    processor.save_pretrained(folder / "ours")
    theirs = reference("InstructBlipVideoProcessor.from_pretrained", str(folder / "ours"))
    theirs.call("save_pretrained", str(folder / "theirs"))
    assert source.is_dir()
    return folder / "theirs"


@pytest.fixture
def processor(llama_folder):
    return InstructBlipVideoProcessor.from_pretrained(llama_folder)


def equal(ours, theirs):
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        if name == "pixel_values":
            np.testing.assert_allclose(np.asarray(ours[name]), np.asarray(expected), atol=2e-6)
        else:
            assert [list(map(int, row)) for row in ours[name]] == [list(map(int, row)) for row in expected], name


# The reference, where it is right: four frames, text padded on the right.


def test_clips_of_four_frames_and_instructions_are_the_same(clips_folder):
    ours = InstructBlipVideoProcessor.from_pretrained(clips_folder)
    theirs = reference("InstructBlipVideoProcessor.from_pretrained", str(clips_folder))
    clips = [clip(seed=seed) for seed in range(3)]
    one = [Image.fromarray(frame) for frame in clips[0]]
    equal(ours(one, TEXTS[0], return_tensors="pt"), theirs(one, TEXTS[0], return_tensors="pt"))
    equal(ours(text=TEXTS[:2]), theirs(text=TEXTS[:2]))
    equal(ours(images=one, return_tensors="pt"), theirs(images=one, return_tensors="pt"))
    for options in (
        {"padding": True},
        {"padding": "max_length", "max_length": 90},
        {"padding": True, "truncation": True, "max_length": 14},
        {"padding": True, "add_special_tokens": False},
        {"padding": True, "pad_to_multiple_of": 8},
    ):
        given = {"images": clips, "text": TEXTS[:3], "return_tensors": "pt", **options}
        equal(ours(**given), theirs(**given))
    assert set(ours.model_input_names) == set(theirs.call("model_input_names"))


def test_pictures_and_instructions_are_the_same(pictures_folder):
    ours = InstructBlipProcessor.from_pretrained(pictures_folder)
    theirs = transformers.InstructBlipProcessor.from_pretrained(pictures_folder)
    images = [picture(seed) for seed in range(3)]
    equal(ours(images[0], TEXTS[0], return_tensors="pt"), theirs(images[0], TEXTS[0], return_tensors="pt"))
    equal(ours(text=TEXTS[:2]), theirs(text=TEXTS[:2]))
    for side, options in itertools.product(
        ("left", "right"),
        (
            {"padding": True},
            {"padding": "max_length", "max_length": 90},
            {"padding": True, "truncation": True, "max_length": 14},
        ),
    ):
        ours.tokenizer.padding_side = theirs.tokenizer.padding_side = side
        given = {"images": images, "text": TEXTS[:3], "return_tensors": "pt", **options}
        equal(ours(**given), theirs(**given))


# Any number of frames.


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 16])
def test_placeholders_follow_the_frames_really_given(processor, frames):
    batch = processor(clip(frames), TEXTS[1], return_tensors="pt")
    count = QUERIES * frames
    assert batch.pixel_values.shape == (1, frames, 3, 12, 10)
    assert (batch.input_ids[0, :count] == processor.video_token_id).all() and batch.attention_mask[0, :count].all()
    assert (batch.input_ids == processor.video_token_id).sum() == count
    assert batch.input_ids[0, count:].tolist() == processor.tokenizer.encode(TEXTS[1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_in_a_ragged_batch_is_the_row_alone(processor, side):
    processor.tokenizer.padding_side = side
    clips, texts = [clip(2), clip(5), clip(1)], [TEXTS[1], "a", TEXTS[0]]
    batch = processor(clips, texts, padding=True, return_tensors="pt")
    assert batch.input_ids.shape == batch.attention_mask.shape
    assert bool(batch.attention_mask[:, -1].all()) == (side == "left")
    assert [tuple(each.shape) for each in batch.pixel_values] == [(n, 3, 12, 10) for n in (2, 5, 1)]
    for row, (video, text) in enumerate(zip(clips, texts)):
        alone = processor(video, text, return_tensors="pt")
        for name in ("", "qformer_"):
            ids, mask = batch[f"{name}input_ids"][row], batch[f"{name}attention_mask"][row]
            assert torch.equal(ids[mask == 1], alone[f"{name}input_ids"][0])
        count = QUERIES * len(video)
        assert (batch.input_ids[row, :count] == processor.video_token_id).all()
    assert batch.to(torch.bfloat16).pixel_values[1].dtype == torch.bfloat16


def test_columns_of_ragged_rows_stay_of_one_length(processor):
    columns = ("return_special_tokens_mask", "return_offsets_mapping", "return_length", "return_token_type_ids")
    batch = processor([clip(1), clip(3)], ["a", TEXTS[1]], padding=True, **dict.fromkeys(columns, True))
    lengths = {
        len(row) for name in batch if name not in ("length", "pixel_values") and "qf" not in name for row in batch[name]
    }
    assert len(lengths) == 1 and set(batch["length"]) == lengths


def test_instructions_of_the_qformer_are_padded_on_the_right(processor):
    processor.tokenizer.padding_side = processor.qformer_tokenizer.padding_side = "left"
    batch = processor([clip(1)] * 2, ["a", TEXTS[1]], padding=True, return_tensors="pt")
    assert batch.qformer_attention_mask[0, 0] == 1 and batch.qformer_attention_mask[0, -1] == 0
    assert batch.attention_mask[0, QUERIES] == 0


# Released checkpoints are of pictures.


@pytest.mark.parametrize("name", ["InstructBlipProcessor", "InstructBlipVideoProcessor"])
@pytest.mark.parametrize("has_config", [True, False])
def test_released_picture_checkpoints_serve_clips(tmp_path, name, has_config):
    folder = save_released(tmp_path, name=name)
    number = transformers.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<image>")
    if has_config:
        write(folder / "config.json", {"model_type": "instructblip", "image_token_index": number})
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is InstructBlipVideoProcessor
    assert processor.video_token_id == number and str(processor.video_token) == "<video>"
    length = len(processor.tokenizer)
    batch = processor("tests/data/media/elephant.jpg", "What?", return_tensors="pt")
    assert batch.pixel_values.shape == (1, 1, 3, 12, 10) and (batch.input_ids == number).sum() == QUERIES
    processor.save_pretrained(tmp_path / "again")
    again = AutoProcessor.from_pretrained(tmp_path / "again")
    assert again.video_token_id == number and len(again.tokenizer) == length
    equal(again(clip(2), "What?"), processor(clip(2), "What?"))
    twin = InstructBlipProcessor.from_pretrained(tmp_path / "again")
    assert twin.image_token_id == number and len(twin.tokenizer) == length
    theirs = reference("InstructBlipVideoProcessor.from_pretrained", str(tmp_path / "again"))
    equal(again(clip(4), "What?", return_tensors="pt"), theirs(clip(4), "What?", return_tensors="pt"))


def test_a_placeholder_that_the_config_does_not_name_is_left_alone(tmp_path):
    folder = save_released(tmp_path)
    before = len(Tokenizer.from_pretrained(folder))
    write(folder / "config.json", {"model_type": "instructblipvideo", "video_token_index": before})
    processor = InstructBlipVideoProcessor.from_pretrained(folder)
    assert processor.video_token_id == before
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == before - 1


def test_older_folder_without_placeholders_warns_once(tmp_path):
    SAVED["t5"](tmp_path)
    SAVED["bert"](tmp_path / "qformer_tokenizer")
    write(tmp_path / "preprocessor_config.json", {"image_processor_type": "BlipImageProcessor", "size": 8})
    write(tmp_path / "config.json", {"model_type": "instructblip"})
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.num_query_tokens is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(text=TEXTS[0])
    with pytest.warns(UserWarning, match="no num_query_tokens .* so prompts get no video placeholders") as seen:
        batch = processor(clip(), TEXTS[0])
        processor(clip(), TEXTS[0])
    assert len(seen) == 1 and batch.input_ids == [processor.tokenizer.encode(TEXTS[0])]


def test_a_folder_without_the_qformers_tokenizer_is_an_error(llama_folder, tmp_path):
    for path in llama_folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelNotFoundError, match="no tokenizer in 'qformer_tokenizer'"):
        InstructBlipVideoProcessor.from_pretrained(tmp_path)


# Never silently wrong.


def test_max_length_counts_num_query_tokens_only_when_there_are_clips(processor):
    options = {"truncation": True, "max_length": 9}
    batch = processor(clip(2), TEXTS[1], **options)
    assert len(batch["input_ids"][0]) == 9 - QUERIES + 2 * QUERIES and len(batch["qformer_input_ids"][0]) == 9
    assert len(processor(text=TEXTS[1], **options)["input_ids"][0]) == 9
    with pytest.raises(ValueError, match=f"max_length is {QUERIES}, but {QUERIES} placeholders"):
        processor(clip(2), TEXTS[1], truncation=True, max_length=QUERIES)


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        ([clip(), clip()], "a", "2 clips for 1 prompt: this family takes one clip for each prompt"),
        (clip(), ["a", "b"], r"2 prompts for 1 clip: each prompt needs a clip of its own.*images=\[video\]"),
        (clip(), "<video>a", "Prompt 0 holds 1 <video> tokens, but the processor writes the 3 placeholders of a frame"),
        (clip(), 3, "Invalid input text"),
        (None, None, "You have to specify at least one of images or text"),
    ],
)
def test_what_does_not_go_together_is_an_error(processor, images, text, message):
    with pytest.raises(ValueError, match=message):
        processor(images, text)


def test_unknown_options_and_missing_parts_are_errors(processor):
    with pytest.raises(TypeError, match="unknown option 'num_frame'; did you mean 'num_frames'"):
        processor(clip(), "a", num_frame=2)
    with pytest.raises(TypeError, match="needs image_processor, tokenizer and qformer_tokenizer"):
        InstructBlipVideoProcessor(video_processor=InstructBlipVideoImageProcessor())


# Settings and files.


def test_first_argument_goes_by_both_names(processor):
    twin = InstructBlipVideoProcessor(
        video_processor=processor.video_processor,
        tokenizer=processor.tokenizer,
        qformer_tokenizer=processor.qformer_tokenizer,
        num_query_tokens=2,
    )
    assert twin.image_processor is twin.video_processor is processor.image_processor
    twin.video_processor = InstructBlipVideoImageProcessor(size=6)
    twin.num_query_tokens = 4
    batch = twin(clip(2), "a", return_tensors="pt", num_frames=1)
    assert batch.pixel_values.shape == (1, 1, 3, 6, 6) and (batch.input_ids == twin.video_token_id).sum() == 4


def test_saved_files_are_those_of_the_layout(processor, tmp_path):
    written = processor.save_pretrained(tmp_path)
    names = {"preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"}
    tokens = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | tokens | {"qformer_tokenizer"}
    assert {path.name for path in (tmp_path / "qformer_tokenizer").iterdir()} == tokens
    assert len(set(written)) == len(names) + 2 * len(tokens)


def test_pictures_saved_by_us_load_in_transformers(llama_folder, tmp_path):
    # padded on the right: the reference gives a saved padding_side to the Q-Former's tokenizer, too
    ours = InstructBlipProcessor.from_pretrained(llama_folder, padding_side="right")
    ours.save_pretrained(tmp_path)
    theirs = transformers.InstructBlipProcessor.from_pretrained(tmp_path)
    given = {"images": [picture(0), picture(1)], "text": TEXTS[:2], "padding": True, "return_tensors": "pt"}
    equal(ours(**given), theirs(**given))
    assert type(ours.image_processor) is BlipImageProcessor


def test_nested_processor_file_loads(llama_folder, tmp_path):
    InstructBlipVideoProcessor.from_pretrained(llama_folder).save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (tmp_path / name).unlink()
    nested = {"video_processor": {"size": {"height": 6, "width": 6}, "crop_size": None}, "num_query_tokens": 2}
    write(tmp_path / "processor_config.json", {**nested, "processor_class": "InstructBlipVideoProcessor"})
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor(clip(), "a", return_tensors="pt").pixel_values.shape == (1, 4, 3, 6, 6)
    assert processor.num_query_tokens == 2


def test_processor_copies_and_pickles(processor):
    expected = processor(clip(2), TEXTS[0])
    for twin in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        equal(twin(clip(2), TEXTS[0]), expected)


# Conversations.


def test_messages_are_bare_instructions_with_one_clip(processor):
    content = [{"type": "video", "path": "tests/data/media/videos/five_frames.mp4"}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": content}]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == "What?"
    batch = processor.apply_chat_template(messages, return_dict=True, return_tensors="pt")
    assert batch.pixel_values.shape[:2] == (1, 4) and (batch.input_ids == processor.video_token_id).sum() == 4 * QUERIES
    seen = [{"role": "user", "content": [{"type": "image", "image": picture()}, content[1]]}]
    two = processor.apply_chat_template(
        [seen, messages], return_dict=True, return_tensors="pt", num_frames=2, padding=True
    )
    assert [len(each) for each in two.pixel_values] == [1, 2]
    moving = [{"role": "user", "content": [{"type": "image", "path": "tests/data/media/apng_ball.png"}]}]
    assert processor.apply_chat_template(moving, return_dict=True, return_tensors="pt").pixel_values.shape[1] == 1
    with pytest.raises(ValueError, match="conversation 0 names 2 media; this family takes one for each prompt"):
        processor.apply_chat_template([*messages, *seen], tokenize=True)


def test_the_picture_twin_takes_no_videos(llama_folder):
    twin = InstructBlipProcessor.from_pretrained(llama_folder)
    messages = [{"role": "user", "content": [{"type": "video", "path": "a.mp4"}, {"type": "text", "text": "What?"}]}]
    with pytest.raises(ValueError, match="conversation 0 has a video; this family takes pictures"):
        twin.apply_chat_template(messages, tokenize=True)
