"""Every kind of source gives the same frames: files, bytes, file objects, URLs, animations, folders, arrays, lists."""

from __future__ import annotations

import io
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media import Frames, VideoLimits, iter_windows, load_image, load_video, probe_video
from onlooker.media.pictures import folder_clip
from tests.media.clips import MEDIA, VIDEOS

CLIP = VIDEOS / "flower_gray.mp4"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(VIDEOS)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_paths_bytes_file_objects_and_urls_give_the_same_frames(server):
    expected = load_video(CLIP, num_frames=3)
    data = CLIP.read_bytes()
    with CLIP.open("rb") as file:
        sources = [str(CLIP), data, memoryview(data), io.BytesIO(data), file, f"{server}/{CLIP.name}?key=secret"]
        for source in sources:
            frames = load_video(source, num_frames=3)
            np.testing.assert_array_equal(frames.pixels, expected.pixels)
            assert frames.seconds == expected.seconds and frames.fps == expected.fps
    assert "secret" not in frames.source
    assert probe_video(f"{server}/{CLIP.name}").frames == 60
    with pytest.raises(MediaError, match="404"):
        load_video(f"{server}/nothing.mp4")


@pytest.mark.parametrize(
    ("name", "count", "seconds"),
    [
        ("animated_flower.webp", 10, [0.0, 0.2, 0.4]),
        ("apng_ball.png", 20, [0.0, 0.075, 0.15]),
        ("animated.avif", 5, [0.0, 0.033, 0.066]),
        ("animated_transparent.gif", 10, [0.0, 2.0, 2.2]),
    ],
)
def test_animations_give_composed_frames_with_times(name, count, seconds):
    path = MEDIA / name
    assert probe_video(path).frames == count
    frames = load_video(path, indices=[0, 1, 2])
    assert frames.seconds == pytest.approx(seconds)
    with Image.open(path) as image:
        for number in range(3):
            image.seek(number)
            flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
            np.testing.assert_array_equal(frames[number], np.asarray(flat))
    np.testing.assert_array_equal(load_video(path.read_bytes(), indices=[2, 0]).pixels, frames.pixels[[2, 0]])


def test_a_gif_gives_what_a_video_decoder_makes_of_it():
    path = VIDEOS / "people_detection.gif"
    with av.open(str(path)) as container:
        decoded = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    frames = load_video(path, sampling="all")
    assert frames.seconds == pytest.approx([time for time, _ in decoded])
    np.testing.assert_array_equal(frames.pixels, [picture for _, picture in decoded])


def test_a_cut_animation_gives_its_good_frames(tmp_path):
    whole = (VIDEOS / "people_detection.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match="has no end mark: it was cut short"):
        frames = load_video(tmp_path / "cut.gif", num_frames=4)
    assert len(frames) == 4 and frames.indices[-1] < 12
    expected = load_video(VIDEOS / "people_detection.gif", indices=frames.indices)
    np.testing.assert_array_equal(frames.pixels[:3], expected.pixels[:3])


def test_a_picture_is_a_clip_of_one_frame():
    expected = load_image(MEDIA / "elephant.jpg")
    with pytest.warns(UserWarning, match="2 frames wanted, 1 found"):
        frames = load_video(MEDIA / "elephant.jpg", num_frames=2)
    np.testing.assert_array_equal(frames.pixels, [expected, expected])
    np.testing.assert_array_equal(load_video(expected, num_frames=1).pixels[0], expected)
    np.testing.assert_array_equal(load_video(Image.fromarray(expected), num_frames=1).pixels[0], expected)


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 9, 1, 2):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = load_video(tmp_path, num_frames=4)
    assert frames.pixels[:, 0, 0, 0].tolist() == [1, 2, 9, 10]
    assert np.isnan(frames.seconds).all() and frames.fps is None
    assert load_video(str(tmp_path), num_frames=4, source_fps=2).seconds == [0, 0.5, 1, 1.5]
    with pytest.raises(ValueError, match="has no times; give source_fps"):
        load_video(tmp_path, num_frames=2, start=1)
    (tmp_path / "frame_3.png").write_bytes(b"broken")
    with pytest.raises(MediaError, match=r"frame_3\.png"):
        load_video(tmp_path, num_frames=5)
    assert load_video(tmp_path, indices=[0, -1]).pixels[:, 0, 0, 0].tolist() == [1, 10]


def test_a_list_of_files_is_a_clip():
    frames = load_video([MEDIA / "gray.jpg", str(MEDIA / "hopper.webp")], num_frames=2)
    np.testing.assert_array_equal(frames[1], load_image(MEDIA / "hopper.webp"))


def layouts(pixels: np.ndarray) -> dict[str, object]:
    first = pixels.transpose(0, 3, 1, 2)
    return {
        "frames last": pixels,
        "frames first": first,
        "tensor": torch.from_numpy(first.copy()),
        "bfloat16": torch.from_numpy(first.copy()).to(torch.bfloat16),
        "list of arrays": list(pixels),
        "tuple of tensors": tuple(torch.from_numpy(first.copy())),
        "list of images": [Image.fromarray(picture) for picture in pixels],
        "fractions": pixels.astype(np.float64) / 255,
        "floats": pixels.astype(np.float32),
        "16 bits": pixels.astype(np.uint16) * 257,
        "frames": Frames(pixels, [0] * len(pixels), [0.0] * len(pixels), None, "frames"),
    }


@pytest.mark.parametrize("kind", list(layouts(np.zeros((1, 5, 6, 3), np.uint8))))
def test_arrays_of_every_layout_give_the_same_frames(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), np.uint8)
    pixels = pixels if kind != "bfloat16" else pixels // 2  # 8 bits of precision hold 0..127 and even more
    frames = load_video(layouts(pixels)[kind], num_frames=3)
    assert frames.indices == [0, 2, 4]
    np.testing.assert_array_equal(frames.pixels, pixels[[0, 2, 4]])


def test_a_dark_frame_is_not_taken_for_fractions_of_white():
    clip = np.zeros((3, 2, 2, 3), np.float32)
    clip[0] = 1.0
    clip[1] = 200.0
    assert load_video(clip, num_frames=3).pixels[:, 0, 0, 0].tolist() == [1, 200, 0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (np.zeros((2, 3, 4, 5, 6)), "is not a clip; give"),
        (np.zeros((4, 8, 8, 7), np.uint8), "is not one picture"),
        (np.full((2, 4, 4, 3), 300.0), "pixel values run from 300"),
        (np.full((2, 4, 4, 3), -1.0), "pixel values run from -1"),
        (np.zeros((0, 4, 4, 3), np.uint8), "holds no frames"),
        ([], "holds no frames"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "frames of different sizes"),
    ],
)
def test_arrays_that_are_no_clip_are_refused(source, text):
    with pytest.raises(MediaError, match=text):
        load_video(source, num_frames=2)


def test_frames_of_different_sizes_can_be_made_alike():
    clip = [np.zeros((4, 4, 3), np.uint8), np.full((4, 6, 3), 9, np.uint8)]
    assert load_video(clip, num_frames=2, resize=(3, 5)).shape == (2, 3, 5, 3)


def test_resize_is_applied_to_each_frame_as_it_comes_out():
    whole = load_video(CLIP, num_frames=4)
    small = load_video(CLIP, num_frames=4, resize=(28, 42))
    for picture, expected in zip(small, whole.to_pil()):
        np.testing.assert_array_equal(picture, np.asarray(expected.resize((42, 28), Image.Resampling.BICUBIC)))
    means = load_video(CLIP, num_frames=4, resize=lambda picture: picture.mean((0, 1)))
    np.testing.assert_allclose(means.pixels, whole.pixels.mean((1, 2)))
    with pytest.raises(ValueError, match="are not RGB pictures"):
        means.to_pil()
    sizes = iter((1, 2, 3, 4))
    with pytest.raises(ValueError, match="all must be alike"):
        load_video(CLIP, num_frames=4, resize=lambda picture: picture[: next(sizes)])


def test_frames_behave_like_a_sequence_of_pictures():
    frames = load_video(CLIP, num_frames=5)
    assert len(frames) == len(list(frames)) == len(frames.to_pil()) == 5
    assert frames[2].shape == (270, 480, 3)
    part = frames[1:3]
    assert isinstance(part, Frames) and part.indices == frames.indices[1:3] and part.seconds == frames.seconds[1:3]
    assert np.asarray(frames) is frames.pixels
    assert np.array(frames) is not frames.pixels
    assert frames.fps == pytest.approx(30000 / 1001) and frames.source == str(CLIP)
    assert "5 of shape (270, 480, 3)" in repr(frames)


@given(st.integers(1, 40), st.integers(1, 20))
def test_any_count_can_be_asked_of_any_clip(count, wanted):
    clip = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = load_video(clip, num_frames=wanted)
    assert frames.indices == [i * count // wanted for i in range(wanted)]
    assert frames.pixels[:, 0, 0, 0].tolist() == frames.indices


def test_memory_is_bounded_by_the_frames_asked_for(tmp_path):
    """Pictures are let go as soon as they are resized: one at a time is alive."""
    import weakref

    alive, most = [], 0

    def tiny(picture):
        nonlocal most
        alive.append(weakref.ref(picture))
        most = max(most, sum(reference() is not None for reference in alive))
        return picture[:2, :2].copy()

    load_video(CLIP, sampling="all", resize=tiny)
    assert len(alive) == 60 and most <= 2
    alive.clear()
    for _ in iter_windows(CLIP, 0.5, num_frames=6, resize=tiny):
        pass
    assert most <= 2


def test_folders_need_image_files(tmp_path):
    with pytest.raises(MediaError, match="is a directory without image files; give a video file"):
        folder_clip(Path(tmp_path), VideoLimits(), None)
