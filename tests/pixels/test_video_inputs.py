"""Clips come in every usual form, and what is none is refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onlooker.media import load_video
from onlooker.pixels import InstructBlipVideoImageProcessor, VideoLlavaImageProcessor, VideoLlavaVideoProcessor

MEDIA = Path(__file__).parents[1] / "data" / "media"
FIVE = MEDIA / "videos" / "five_frames.mp4"


def frames(count=4, height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.fixture
def processor():
    return InstructBlipVideoImageProcessor(size=12)


def values(processor, videos, **options):
    return processor(videos, return_tensors="np", **options)["pixel_values"]


def test_one_clip_in_every_form_gives_the_same_values(processor):
    clip = frames()
    expected = values(processor, clip)
    assert expected.shape == (1, 4, 3, 12, 12)
    pictures = [Image.fromarray(frame) for frame in clip]
    forms = [
        pictures,
        tuple(pictures),
        [pictures],
        [[pictures]],
        list(clip),
        [clip],
        clip[None],
        clip.transpose(0, 3, 1, 2),
    ]
    forms += [torch.from_numpy(clip), [torch.from_numpy(frame) for frame in clip], load_video(clip, sampling="all")]
    forms += [clip.astype(np.int64), clip.astype(np.float32)]
    for form in forms:
        assert np.array_equal(values(processor, form), expected)


def test_a_single_picture_is_a_clip_of_one_frame(processor):
    picture = frames(1)[0]
    expected = values(processor, picture[None])
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    for form in (picture, Image.fromarray(picture), torch.from_numpy(picture), file.getvalue(), [[picture]]):
        assert np.array_equal(values(processor, form), expected)
    assert values(processor, MEDIA / "elephant.jpg").shape == (1, 1, 3, 12, 12)


def test_several_clips_are_a_batch_and_ragged_ones_a_list(processor):
    two = [frames(3, seed=1), frames(3, 40, 10, seed=2)]
    assert values(processor, two).shape == values(processor, np.stack([two[0]] * 2)).shape == (2, 3, 3, 12, 12)
    ragged = [frames(2), [Image.fromarray(frame) for frame in frames(5)], frames(1)[0]]
    for kind, array in (("pt", torch.Tensor), ("np", np.ndarray), (None, np.ndarray)):
        given = processor(ragged, return_tensors=kind)["pixel_values"]
        assert [type(clip) for clip in given] == [array] * 3
        assert [tuple(clip.shape) for clip in given] == [(n, 3, 12, 12) for n in (2, 5, 1)]
    batch = processor(ragged, return_tensors="pt").to(torch.float16)
    assert [clip.dtype for clip in batch.pixel_values] == [torch.float16] * 3
    alone = values(processor, ragged[1])[0]
    assert np.array_equal(batch.pixel_values[1].numpy(), alone.astype(np.float16))


def test_gray_clips_get_three_equal_channels(processor):
    gray = frames()[..., :1]
    assert np.array_equal(values(processor, gray), values(processor, np.repeat(gray, 3, axis=3)))
    colours = Image.fromarray(frames(1)[0]).convert("RGBA")
    assert values(processor, [colours, colours]).shape == (1, 2, 3, 12, 12)


def test_channels_may_be_put_last(processor):
    given = processor(frames(), return_tensors="np", data_format="channels_last")["pixel_values"]
    assert np.array_equal(given.transpose(0, 1, 4, 2, 3), values(processor, frames()))


# Sampling.


def test_frames_are_sampled_evenly_when_asked(processor):
    clip = frames(7)
    for given in (clip, list(clip), [Image.fromarray(frame) for frame in clip], torch.from_numpy(clip)):
        assert np.array_equal(values(processor, given, num_frames=4), values(processor, clip[[0, 1, 3, 5]]))
    set_later = InstructBlipVideoImageProcessor(size=12, num_frames=4)
    assert values(set_later, clip).shape[1] == 7
    set_later.do_sample_frames = True
    assert values(set_later, clip).shape[1] == 4 and values(set_later, clip, do_sample_frames=False).shape[1] == 7


def test_more_frames_than_there_are_is_an_error(processor):
    with pytest.raises(ValueError, match=r"num_frames is 9, but the clip has 7 frames; ask for 7 or fewer"):
        processor(frames(7), num_frames=9)
    with pytest.raises(ValueError, match=r"num_frames is 6, but the clip has 5 frames"):
        processor(FIVE, num_frames=6)
    with pytest.raises(ValueError, match="do_sample_frames needs num_frames"):
        processor(frames(7), do_sample_frames=True)


# Files.


def test_files_give_the_frames_of_load_video(processor):
    expected = values(processor, load_video(FIVE, sampling="all"))
    assert expected.shape[1] == 5
    for form in (FIVE, str(FIVE), FIVE.read_bytes(), [FIVE], io.BytesIO(FIVE.read_bytes())):
        assert np.array_equal(values(processor, form), expected)
    assert np.array_equal(values(processor, FIVE, num_frames=2), expected[:, [0, 2]])


def test_a_long_file_is_not_taken_whole_by_accident(processor):
    path = MEDIA / "videos" / "car_single_gop.mp4"
    with pytest.raises(ValueError, match=r"frames, and all of them would be used; say how many with num_frames=8"):
        processor(path)
    assert values(processor, [path, FIVE], num_frames=4).shape == (2, 4, 3, 12, 12)


def test_a_moving_picture_is_a_clip(processor):
    assert values(processor, MEDIA / "animated_flower.webp", num_frames=3).shape[1] == 3


def test_a_file_that_is_not_there_is_an_error(processor):
    with pytest.raises(FileNotFoundError, match="no such file: nowhere.mp4"):
        processor("nowhere.mp4")


# Never silently wrong.


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (frames().transpose(3, 0, 1, 2), r"\(3, 4, 20, 30\) looks like channels; wanted .*transpose\(1, 0, 2, 3\)"),
        (frames().transpose(0, 1, 3, 2), r"no axis of the clip's shape \(4, 20, 3, 30\) looks like channels"),
        (frames()[:0], "holds no frames"),
        (frames()[0, 0], r"an array of shape \(30, 3\) is not a video"),
        ([], "videos is empty"),
        ({"a": 1}, "dict is not a video; give an array or tensor"),
        (3, "int is not a video"),
        (
            [frames(1)[0], frames(1, 10, 30)[0]],
            "frame 0 of a clip is 30x20 and frame 1 is 30x10; bring them to one size",
        ),
        (frames() - 300.0, "pixel values run from -300"),
        (frames() * 2.0, "pixel values run from 0.0 to 5"),
        (frames() * np.nan, "pixel values run from nan"),
        (np.full((2, 8, 8, 3), "a"), "is not a picture; give numbers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("do_resize", [True, False])
def test_what_is_no_clip_is_refused_in_one_line(videos, message, do_resize):
    with pytest.raises(ValueError, match=message) as caught:
        VideoLlavaVideoProcessor(do_resize=do_resize)(videos)
    assert "\n" not in str(caught.value)


def test_levels_between_whole_numbers_cannot_be_resized(processor):
    with pytest.raises(ValueError, match="pixel values run from 1.5 to 1.5, with fractions; resizing needs whole"):
        processor(np.full((2, 8, 8, 3), 1.5))


def test_an_unknown_option_is_an_error(processor):
    with pytest.raises(TypeError, match="unknown option 'do_crop'"):
        processor(frames(), do_crop=True)
    for name, wrong in (("resize_with", "cv2"), ("preprocessing", "own")):
        with pytest.raises(ValueError, match=f"{name} is '{wrong}'; it may be"):
            VideoLlavaImageProcessor(**{name: wrong})(images=frames()[0])


def test_clips_of_several_sizes_do_not_make_one_batch():
    processor = InstructBlipVideoImageProcessor(do_resize=False)
    clips = [frames(2), frames(2, 10)]
    with pytest.raises(ValueError, match="clips with frames of .* do not make one batch; set do_resize=True"):
        processor(clips, return_tensors="pt")
    assert [clip.shape for clip in processor(clips)["pixel_values"]] == [(2, 3, 20, 30), (2, 3, 10, 30)]


def test_fractions_are_warned_of_once():
    processor = VideoLlavaVideoProcessor(size=8, crop_size=8)
    with pytest.warns(UserWarning, match="do_rescale=False") as seen:
        processor(frames() / 255.0)
        processor(frames() / 255.0)
    assert len(seen) == 1
    given = processor(frames() / 255.0, do_rescale=False)["pixel_values_videos"][0]
    np.testing.assert_allclose(given, processor(frames())["pixel_values_videos"][0], atol=0.02)


# Options.


def test_integer_sizes_mean_the_short_side_and_a_square_crop():
    for cls, key in (
        (VideoLlavaVideoProcessor, "pixel_values_videos"),
        (VideoLlavaImageProcessor, "pixel_values_images"),
    ):
        processor = cls(size=16, crop_size=14)
        assert processor.size == {"shortest_edge": 16} and processor.crop_size == {"height": 14, "width": 14}
        given = processor(frames()[0], return_tensors="pt", crop_size=10)[key]
        assert given.shape[-3:] == (3, 10, 10)
        assert processor(frames()[0], return_tensors="pt", do_center_crop=False)[key].shape[-2:] == (16, 24)
    assert InstructBlipVideoImageProcessor(size=16).size == {"height": 16, "width": 16}


def test_scalar_means_and_options_set_later_count(processor):
    processor.image_mean, processor.image_std, processor.size = 0.5, 0.25, {"height": 6, "width": 8}
    given = values(processor, frames())
    assert given.shape[-2:] == (6, 8) and given.min() >= -2 and given.max() <= 2


def test_options_of_ours_are_written_only_when_they_differ(tmp_path):
    for cls in (VideoLlavaVideoProcessor, VideoLlavaImageProcessor, InstructBlipVideoImageProcessor):
        assert not set(cls.extras) & set(cls().to_dict())
        changed = cls(resize_with="pillow" if cls.extras["resize_with"] == "torch" else "torch", num_frames=3)
        changed.save_pretrained(tmp_path / cls.__name__)
        again = cls.from_pretrained(tmp_path / cls.__name__)
        assert again.resize_with == changed.resize_with != cls.extras["resize_with"] and again.num_frames == 3
        assert cls.from_pretrained(tmp_path / cls.__name__, num_frames=5).num_frames == 5


# The original Video-LLaVA's preprocessing.


def paper_clip_in_its_own_order(clip):
    """Divide, normalise, short side to 224, long side cut to whole pixels, centre crop."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    normal = (torch.from_numpy(clip).permute(0, 3, 1, 2) / 255 - mean) / std
    height, width = normal.shape[-2:]
    size = (224, width * 224 // height) if height < width else (height * 224 // width, 224)
    scaled = torch.nn.functional.interpolate(normal, size=size, mode="bilinear", align_corners=False)
    top, left = (round((side - 224) / 2.0) for side in size)
    return scaled[:, :, top : top + 224, left : left + 224]


@pytest.mark.parametrize(("height", "width"), [(270, 480), (301, 227), (60, 91), (224, 224)])
def test_clips_of_the_paper_are_normalised_and_scaled_without_antialias(height, width):
    clip = frames(2, height, width)
    given = VideoLlavaVideoProcessor(preprocessing="paper")(clip, return_tensors="pt")["pixel_values_videos"]
    torch.testing.assert_close(given[0], paper_clip_in_its_own_order(clip), atol=5e-6, rtol=0)
    same = VideoLlavaImageProcessor(preprocessing="paper")(videos=clip, return_tensors="pt")["pixel_values_videos"]
    assert torch.equal(given, same)
    if (height, width) != (224, 224):
        assert (given - VideoLlavaVideoProcessor()(clip, return_tensors="pt")["pixel_values_videos"]).abs().max() > 0.1


def test_pictures_of_the_paper_are_padded_to_a_square():
    picture = frames(1, 30, 50)[0]
    square = Image.new("RGB", (50, 50), (122, 116, 104))
    square.paste(Image.fromarray(picture), (0, 10))
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255
    scaled = torch.nn.functional.interpolate(pixels, size=(224, 224), mode="bicubic", align_corners=False)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    expected = (scaled - mean[:, None, None]) / std[:, None, None]
    processor = VideoLlavaImageProcessor(preprocessing="paper")
    for given in (picture, Image.fromarray(picture)):
        values = processor(images=given, return_tensors="pt")["pixel_values_images"]
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)
    tall = processor(images=picture.transpose(1, 0, 2), return_tensors="pt")["pixel_values_images"]
    torch.testing.assert_close(tall, expected.transpose(2, 3), atol=1e-5, rtol=0)


def test_the_papers_files_are_sampled_with_first_and_last_frame():
    plain, paper = (VideoLlavaVideoProcessor(preprocessing=name) for name in ("hf", "paper"))
    for processor, policy in ((plain, "uniform"), (paper, "linspace")):
        expected = processor(load_video(FIVE, num_frames=3, sampling=policy), return_tensors="pt")
        given = processor(FIVE, num_frames=3, return_tensors="pt")
        assert torch.equal(given.pixel_values_videos, expected.pixel_values_videos)
