"""How media reach the vision part: the processor's own values, frame by frame, a bounded number ahead."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import onlooker
from onlooker.errors import MediaError
from onlooker.pipeline.media import ClipOptions
from tests.pipeline.conftest import CLIP, VIDEOS, picture

CLIPS = [
    "rot90.mov",
    "size_change.ts",
    "odd_35x23_yuv444.mp4",
    "people_detection.gif",
    "flower_sar2.mp4",
    "one_frame.mp4",
]


def looked_at(eyes, source, **clip):
    eyes.cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eyes._looker.look(source, ClipOptions(**clip), eyes.model)


def processed(eyes, frames):
    """What the documented processor makes of a clip in full size."""
    pictures = [Image.fromarray(each) for each in frames.pixels]
    if eyes.family == "Video-LLaVA":
        return eyes.processor.video_processor([pictures], return_tensors="pt")["pixel_values_videos"][0]
    return eyes.processor.image_processor([pictures], return_tensors="pt")["pixel_values"][0]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("kind", ["video-llava", "instructblip-llama"])
def test_frames_that_are_shrunk_as_they_come_have_the_values_of_whole_ones(load, kind, name):
    eyes = load(kind)
    look = looked_at(eyes, VIDEOS / name, num_frames=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = eyes.load(VIDEOS / name, num_frames=4)
    assert torch.equal(look.pixels, processed(eyes, frames))
    assert look.image_size == (frames.shape[2], frames.shape[1]) and look.frames.indices == tuple(frames.indices)
    assert look.digest == looked_at(eyes, frames).digest == looked_at(eyes, frames.pixels[None][0], num_frames=4).digest


def test_pictures_have_the_values_of_the_processor_whatever_their_shape(load):
    for kind, key in (("opt", "pixel_values"), ("video-llava", "pixel_values_images")):
        eyes = load(kind)
        for given in (picture(1), picture(2, height=3, width=40), picture(3, height=50, width=1)):
            expected = eyes.processor.image_processor([Image.fromarray(given)], return_tensors="pt")[key][0]
            assert torch.equal(looked_at(eyes, given).pixels, expected)


def test_pictures_of_unlike_sizes_make_no_clip_and_what_is_no_picture_is_said(load):
    eyes = load("video-llava")
    with pytest.raises(MediaError, match="different sizes"):
        eyes.encode([[picture(0), picture(1, height=31)]])
    small = onlooker.load_video(CLIP, num_frames=8, resize=lambda each: each[::2, ::2, 0])
    with pytest.raises(ValueError, match="are not RGB pictures"):
        eyes.encode(small)


def test_media_are_read_in_a_thread_and_about_a_batch_ahead(load):
    eyes = load("video-llava")
    small = onlooker.Onlooker(eyes.model, eyes.processor, batch_size=2)
    read, seen, most = [], [], []
    look, see = small._looker.look, small._writer.family.see

    def reading(*arguments):
        read.append(threading.current_thread())
        return look(*arguments)

    def seeing(model, pixels, kind):
        most.append(len(read) - len(seen))
        seen.extend(pixels)
        return see(model, pixels, kind)

    small._looker.look, small._writer.family.see = reading, seeing
    try:
        small.encode([picture(number) for number in range(12)])
    finally:
        del small._writer.family.see
    assert len(seen) == 12 and max(most) <= 2 + 2 + 1  # this batch, a batch that waits, and the one being read
    assert threading.main_thread() not in read
    assert not any(thread.name == "onlooker-ahead" for thread in threading.enumerate())


def test_an_error_on_the_way_is_raised_in_its_place_and_leaves_no_thread(load):
    eyes = load("video-llava")
    media = [picture(0), "gone.mp4", picture(1)]
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        eyes.caption(media, max_new_tokens=2)
    first, error, last = eyes.caption(media, max_new_tokens=2, errors="return")
    assert isinstance(error, FileNotFoundError) and first.text is not None and last.text is not None
    with pytest.raises(ValueError, match="temperature"):
        eyes.caption([picture(number) for number in range(40)], do_sample=True, temperature=-1.0)
    assert not any(thread.name == "onlooker-ahead" for thread in threading.enumerate())


def test_the_next_window_is_decoded_while_this_one_is_answered(load):
    eyes = load("video-llava")
    threads, see = [], eyes._see_in_passing

    def seeing(frames, shrink):
        threads.append(threading.current_thread().name)
        assert frames.pixels.dtype == np.float32  # in full size only where somebody looks at them
        return see(frames, shrink)

    eyes._see_in_passing = seeing
    try:
        eyes.ask(CLIP, "Is it raining?", windows=0.5)
    finally:
        del eyes._see_in_passing
    assert set(threads) == {"onlooker-ahead"} and len(threads) == 6


@pytest.mark.parametrize("form", ["array", "pillow", "file", "bytes"])
def test_a_picture_among_videos_has_no_windows(load, tmp_path, form):
    eyes = load("video-llava")
    Image.fromarray(picture(5)).save(tmp_path / "picture.png")
    data = (tmp_path / "picture.png").read_bytes()
    given = {
        "array": picture(5),
        "pillow": Image.fromarray(picture(5)),
        "file": tmp_path / "picture.png",
        "bytes": data,
    }
    called: list[object] = []
    answer = eyes.ask(
        given[form], "What?", windows=1, max_new_tokens=3, on_window=lambda *window: called.append(window)
    )
    assert answer.text == eyes.ask(picture(5), "What?", max_new_tokens=3).text
    assert answer.windows is None and answer.frames is None and not called
