"""VideoLlavaProcessor gives the reference's correct results, and refuses what would be silently wrong."""

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

from onlooker.auto_processing import AutoProcessor
from onlooker.models.video_llava.processor import VideoLlavaProcessor
from onlooker.pixels import VideoLlavaImageProcessor, VideoLlavaVideoProcessor
from onlooker.text import Tokenizer
from tests.oracle import reference
from tests.text.trained import SAVED, write

PIXELS = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
PATCHES = 4  # (28 / 14) squared
SHORT, LONG = "USER: <video>\nWhat? ASSISTANT:", "USER: <video>\nWhat do you see in this video, and why? ASSISTANT:"


def picture(seed=0, height=31, width=40):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip(frames=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, 31, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder as the reference writes it, its video processor included."""
    folder = tmp_path_factory.mktemp("video_llava")
    SAVED["llama"](folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    transformers.VideoLlavaImageProcessor(**PIXELS).save_pretrained(folder)
    VideoLlavaVideoProcessor(**PIXELS).save_pretrained(folder)
    settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    write(folder / "processor_config.json", {**settings, "processor_class": "VideoLlavaProcessor"})
    return folder


@pytest.fixture
def processor(folder):
    return VideoLlavaProcessor.from_pretrained(folder)


def equal(ours, theirs):
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        if name.startswith("pixel"):
            np.testing.assert_allclose(np.asarray(ours[name]), np.asarray(expected), atol=2e-6)
        else:
            assert [list(map(int, row)) for row in ours[name]] == [list(map(int, row)) for row in expected], name


def counts(processor, batch):
    ids = torch.as_tensor(batch["input_ids"])
    return [(ids == token).sum(1).tolist() for token in (processor.image_token_id, processor.video_token_id)]


# The reference, where it is right.


def test_prompts_pictures_and_clips_are_the_same(folder):
    ours = VideoLlavaProcessor.from_pretrained(folder)
    theirs = reference("VideoLlavaProcessor.from_pretrained", str(folder))
    one, two = clip(), clip(seed=1)
    mixed = "USER: <image>\nWhat? ASSISTANT: A cat. USER: <video>\nWhy? ASSISTANT:"
    ours._warned_of_several = True
    for given in (
        {"text": SHORT, "videos": one},
        {"text": SHORT, "videos": [Image.fromarray(frame) for frame in one]},
        {"text": SHORT.replace("video", "image"), "images": picture()},
        {"text": mixed, "images": picture(), "videos": one},
        {"text": [SHORT, LONG], "videos": [one, two], "padding": True},
        {"text": [SHORT, LONG], "videos": [one, two], "padding": "max_length", "max_length": 90},
        {"text": [SHORT, LONG], "videos": [one, two], "padding": True, "truncation": True, "max_length": 50},
        {"text": [mixed, SHORT], "images": [picture()], "videos": [one, two], "padding": True},
        {"text": [SHORT.replace("video", "image"), SHORT], "images": picture(), "videos": one, "padding": True},
        {"text": ["no media at all", "two"], "padding": True},
    ):
        equal(ours(**given), theirs(**given))
    equal(ours(text=SHORT, videos=one, return_tensors="np"), theirs(text=SHORT, videos=one))


@pytest.mark.parametrize(
    ("strategy", "additional", "patch"), list(itertools.product(("default", "full"), (0, 1, 2), (14, 7)))
)
def test_settings_set_later_give_the_references_placeholders(folder, strategy, additional, patch):
    settings = {
        "vision_feature_select_strategy": strategy,
        "num_additional_image_tokens": additional,
        "patch_size": patch,
    }
    ours = VideoLlavaProcessor.from_pretrained(folder)
    for name, value in settings.items():
        setattr(ours, name, value)
    theirs = reference("VideoLlavaProcessor.from_pretrained", str(folder), **settings)
    for given in ({"text": SHORT, "videos": clip()}, {"text": SHORT.replace("video", "image"), "images": picture()}):
        equal(ours(**given), theirs(**given))


def test_released_numbers_of_placeholders(folder):
    processor = VideoLlavaProcessor.from_pretrained(folder, size=224, crop_size=224)
    batch = processor(text=SHORT, videos=clip(8))
    assert batch.pixel_values_videos.shape == (1, 8, 3, 224, 224) and counts(processor, batch) == [[0], [2056]]
    batch = processor(text="<image> a", images=picture())
    assert batch.pixel_values_images.shape == (1, 3, 224, 224) and counts(processor, batch) == [[256], [0]]


# Any number of frames, mixed rows.


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 16])
def test_a_row_in_a_ragged_batch_is_the_row_alone(processor, frames):
    clips = [clip(2, 1), clip(frames, 2), clip(1, 3)]
    texts = [SHORT, LONG, "<video>"]
    batch = processor(text=texts, videos=clips, padding=True)
    assert counts(processor, batch)[1] == [len(each) * (PATCHES + 1) for each in clips]
    for row, (text, video) in enumerate(zip(texts, clips)):
        alone = processor(text=text, videos=video)
        length = alone.input_ids.shape[1]
        assert batch.attention_mask[row].sum() == length
        assert torch.equal(batch.input_ids[row][batch.attention_mask[row] == 1], alone.input_ids[0])
        assert torch.equal(torch.as_tensor(batch.pixel_values_videos[row]), alone.pixel_values_videos[0])


def test_media_go_to_their_markers_in_reading_order(processor):
    processor._warned_of_several = True
    batch = processor(
        text=["<image> a <video>", "none", "<video> b <image><image>"],
        images=[picture(0), picture(1), picture(2)],
        videos=[clip(1), clip(3)],
        padding=True,
    )
    assert counts(processor, batch) == [[4, 0, 8], [5, 0, 15]]
    assert batch.pixel_values_images.shape[0] == 3 and [len(each) for each in batch.pixel_values_videos] == [1, 3]
    assert batch.to(torch.float16).pixel_values_videos[1].dtype == torch.float16


def test_several_media_in_one_prompt_warn_once(processor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(text=["<image>a", "<video>b"], images=picture(), videos=clip(), padding=True)
    with pytest.warns(UserWarning, match="a prompt has several pictures or clips; that works, but") as seen:
        for _ in range(2):
            processor(text="<image><image>", images=[picture(), picture()])
    assert len(seen) == 1


# Never silently wrong.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": "<video><video>", "videos": [0]}, "2 <video> in the prompts, but 1 clip; write one <video> where"),
        ({"text": "<video>", "videos": [0, 1]}, "1 <video> in the prompts, but 2 clips"),
        ({"text": ["<image>", "a"], "images": [0, 1]}, "1 <image> in the prompts, but 2 pictures"),
        ({"text": "<video>", "videos": [0], "images": [0]}, "0 <image> in the prompts, but 1 picture; write"),
        ({"text": "<video><image>", "videos": [0]}, "1 <image> in the prompts, but 0 pictures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_markers_and_media_that_differ_are_an_error(processor, given, message):
    media = {"videos": clip, "images": picture}
    given = {name: [media[name](seed=i) for i in value] if name in media else value for name, value in given.items()}
    with pytest.raises(ValueError, match=message):
        processor(padding=True, **given)


def test_prompts_without_any_marker_are_left_to_the_model(processor):
    batch = processor(text="What?", videos=clip())
    assert counts(processor, batch) == [[0], [0]] and "pixel_values_videos" in batch


@pytest.mark.parametrize("side", ["left", "right"])
def test_truncation_that_cuts_placeholders_is_an_error(processor, side):
    processor.tokenizer.truncation_side = side
    with pytest.raises(
        ValueError, match=r"Truncation cut placeholders: prompt 0 has 15 <video> tokens and \d+ of them"
    ):
        processor(text=SHORT, videos=clip(), truncation=True, max_length=12)


def test_a_tokenizer_without_the_marker_is_an_error(tmp_path):
    SAVED["llama"](tmp_path)
    processor = VideoLlavaProcessor(VideoLlavaImageProcessor(**PIXELS), None, Tokenizer.from_pretrained(tmp_path))
    with pytest.raises(ValueError, match=r"the tokenizer has no token <video>; add it with tokenizer.add_tokens"):
        processor(text=SHORT, videos=clip())


def test_arguments_that_make_no_sense_are_errors(processor, folder):
    with pytest.raises(ValueError, match="You have to specify text, images or videos"):
        processor()
    with pytest.raises(ValueError, match="Invalid input text"):
        processor(picture(), SHORT)
    with pytest.raises(TypeError, match="unknown option 'num_frame'; did you mean 'num_frames'"):
        processor(text=SHORT, videos=clip(), num_frame=3)
    with pytest.raises(ValueError, match="input_ids has rows of .* padding=True"):
        processor(text=[SHORT, LONG], videos=[clip(), clip()])
    with pytest.raises(TypeError, match="needs a tokenizer"):
        VideoLlavaProcessor()


# Options and files.


def test_options_reach_their_part(processor):
    batch = processor(text=SHORT, videos=clip(6), num_frames=2, do_rescale=False)
    assert batch.pixel_values_videos.shape[1] == 2 and batch.pixel_values_videos.max() > 100
    nested = {"videos_kwargs": {"num_frames": 2, "do_rescale": False}, "text_kwargs": {"padding": True}}
    equal(processor(text=SHORT, videos=clip(6), **nested), batch)
    lists = processor(text=[SHORT, LONG], videos=[clip(), clip()], return_tensors=None)
    assert isinstance(lists.input_ids, list) and len(lists.pixel_values_videos) == 2


def test_media_alone_are_fine(processor):
    assert set(processor(videos=clip())) == {"pixel_values_videos"}
    assert set(processor(images=[picture()])) == {"pixel_values_images"}
    assert "pixel_values_images" in processor.model_input_names and "input_ids" in processor.model_input_names


def test_a_missing_video_processor_is_built_from_the_picture_processor(folder, tmp_path):
    tokenizer = Tokenizer.from_pretrained(folder)
    built = VideoLlavaProcessor(VideoLlavaImageProcessor(image_mean=0.1, **PIXELS), tokenizer=tokenizer)
    assert built.video_processor.image_mean == 0.1 and built.video_processor.resize_with == "torch"
    for path in folder.iterdir():
        if path.is_file() and path.name not in ("video_preprocessor_config.json", "processor_config.json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    loaded = VideoLlavaProcessor.from_pretrained(tmp_path)
    expected = VideoLlavaProcessor.from_pretrained(folder)(text=SHORT, videos=clip())
    equal(loaded(text=SHORT, videos=clip()), expected)
    assert (loaded.patch_size, loaded.vision_feature_select_strategy) == (14, "default")


def test_saved_by_us_loads_in_transformers_and_here(processor, tmp_path):
    processor.patch_size, processor.vision_feature_select_strategy = 7, "full"
    processor.save_pretrained(tmp_path)
    theirs, again = reference("AutoProcessor.from_pretrained", str(tmp_path)), AutoProcessor.from_pretrained(tmp_path)
    given = {"text": ["<image> a", SHORT], "images": picture(), "videos": clip(), "padding": True}
    equal(again(**given), processor(**given))
    equal(processor(**given), theirs(**given))
    theirs.call("save_pretrained", str(tmp_path / "theirs"))
    equal(AutoProcessor.from_pretrained(tmp_path / "theirs")(**given), processor(**given))
    assert type(again) is VideoLlavaProcessor and again.to_dict() == processor.to_dict()


def test_saved_files_are_those_of_the_layout(processor, tmp_path):
    written = processor.save_pretrained(tmp_path)
    names = {"preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "tokenizer.json"}
    names |= {"tokenizer_config.json", "special_tokens_map.json"}
    assert {path.rsplit("/", 1)[1] for path in written} == names == {path.name for path in tmp_path.iterdir()}


def test_nested_processor_file_loads(folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    clips = VideoLlavaVideoProcessor(**PIXELS, image_std=0.5).to_dict()
    nested = {"image_processor": VideoLlavaImageProcessor(**PIXELS).to_dict(), "video_processor": clips}
    write(tmp_path / "processor_config.json", {**nested, "patch_size": 7, "processor_class": "VideoLlavaProcessor"})
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert (processor.patch_size, processor.num_additional_image_tokens) == (7, 1)
    assert processor.video_processor.image_std == 0.5 != processor.image_processor.image_std


def test_overrides_reach_both_kinds_of_pixels(folder):
    processor = VideoLlavaProcessor.from_pretrained(folder, size=14, crop_size=14, preprocessing="paper", patch_size=7)
    batch = processor(text="<video>", videos=clip())
    assert counts(processor, batch) == [[0], [15]] and batch.pixel_values_videos.shape[-2:] == (14, 14)
    assert processor.image_processor.preprocessing == processor.video_processor.preprocessing == "paper"


def test_processor_copies_and_pickles(processor):
    expected = processor(text=SHORT, videos=clip())
    for twin in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        equal(twin(text=SHORT, videos=clip()), expected)


def test_decoding_is_the_tokenizers(processor):
    batch = processor(text=SHORT, videos=clip())
    texts = processor.batch_decode(batch.input_ids, skip_special_tokens=True)
    assert texts == [SHORT.replace("<video>", "")] == processor.post_process_image_text_to_text(batch.input_ids)


# Conversations.


def test_messages_become_the_documents_prompt(processor, folder):
    messages = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What do you see in this video?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A baby reading a book."}]},
        {"role": "user", "content": [{"type": "text", "text": "Why is the it funny?"}]},
    ]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    expected = "USER: <video>\nWhat do you see in this video? ASSISTANT: A baby reading a book. USER: "
    assert prompt == expected + "Why is the it funny? ASSISTANT:"
    assert processor.apply_chat_template([messages[:1]] * 2) == ["USER: <video>\nWhat do you see in this video?"] * 2
    paper = processor.apply_chat_template(messages, "paper", add_generation_prompt=True)
    assert paper.startswith("A chat between a curious human and") and "book.</s>USER: Why" in paper


def test_messages_are_loaded_with_their_media(processor, folder, tmp_path):
    picture().save(tmp_path / "cat.png")
    saved = {"type": "image", "path": str(tmp_path / "cat.png")}
    messages = [
        {"role": "user", "content": [saved, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": [{"type": "video", "video": clip()}, {"type": "text", "text": "Why?"}]},
    ]
    with pytest.warns(UserWarning, match="several"):
        batch = processor.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
    equal(batch, processor(text=prompt, images=picture(), videos=clip()))
    ids = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
    assert torch.equal(ids, batch.input_ids)
    two = processor.apply_chat_template(
        [messages, [{"role": "user", "content": "Hello"}]], tokenize=True, padding=True, return_tensors="np"
    )
    assert two.shape[0] == 2 and isinstance(two, np.ndarray)


def test_a_template_in_the_folder_wins(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}|{{ mood }}")
    loaded = VideoLlavaProcessor.from_pretrained(tmp_path)
    message = [{"role": "user", "content": "Hi"}]
    assert loaded.apply_chat_template(message, mood="dry") == "<s>Hi|dry"
    ids = loaded.apply_chat_template(message, tokenize=True)[0].tolist()
    assert ids.count(loaded.tokenizer.bos_token_id) == 1
    assert loaded.apply_chat_template(message, "paper").endswith("questions. USER: Hi ")
    assert json.loads((tmp_path / "processor_config.json").read_text())["image_token"] == "<image>"


def test_the_references_rendering_of_the_same_template_is_the_same(processor, folder):
    theirs = reference("VideoLlavaProcessor.from_pretrained", str(folder))
    content = [{"type": "video"}, {"type": "text", "text": "Hm?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": content[1:]}]
    for template in processor.default_chat_template.values():
        for prompt in (True, False):
            options = {"add_generation_prompt": prompt, "image_token": "<image>", "video_token": "<video>"}
            ours = processor.apply_chat_template(messages, template, **options)
            assert ours == theirs.call("apply_chat_template", messages, chat_template=template, **options)
