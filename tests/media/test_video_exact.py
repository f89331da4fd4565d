"""Frames found by seeking are those that decoding everything gives, and those that another decoder gives."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onlooker.media import VideoLimits, load_video, probe_video
from onlooker.media.opening import Opening, open_clip
from onlooker.media.source import find_source
from onlooker.media.videofile import VideoFile
from tests.media.clips import DAMAGED, FACTS, VIDEOS, all_clips, decode_everything, digest

ANY_NUMBER = VideoLimits(max_frames=None)
STREAMS = [path for path in all_clips() if path.name != "size_change.ts"]
names = pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.name)


def load_quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_video(path, square_pixels=False, limits=ANY_NUMBER, **options)


def refuse_to_count_again(self):
    raise AssertionError(f"{self.name} is healthy, and a frame of it was lost")


@names
def test_uniform_frames_are_those_of_decoding_everything(path, monkeypatch):
    if path.name not in DAMAGED:
        monkeypatch.setattr(VideoFile, "repair", refuse_to_count_again)
    expected, _ = decode_everything(path)
    frames = load_quietly(path, num_frames=8)
    assert frames.indices == [i * len(expected) // 8 for i in range(8)]
    assert [digest(picture) for picture in frames] == [expected[number] for number in frames.indices]


@names
def test_any_frames_in_any_order_are_those_of_decoding_everything(path):
    expected, _ = decode_everything(path)
    chance = random.Random(path.name)
    for wanted in (1, 2, 9):
        indices = [chance.randrange(len(expected)) for _ in range(wanted)]
        frames = load_quietly(path, indices=indices)
        assert frames.indices == indices
        assert [digest(picture) for picture in frames] == [expected[number] for number in indices]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_targets_in_clips_with_many_short_groups(data):
    name = data.draw(
        st.sampled_from(["flower_mpeg4.avi", "flower_fragmented.mp4", "flower_mjpeg.avi", "negative_pts.mp4"])
    )
    path = VIDEOS / name
    expected, _ = decode_everything(path)
    indices = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=12))
    frames = load_quietly(path, indices=indices)
    assert [digest(picture) for picture in frames] == [expected[number] for number in indices]


def facts_of(picture):
    return np.array([int(digest(picture)[:8], 16), *picture.mean((0, 1))])


@pytest.mark.parametrize("name", sorted(FACTS))
def test_frames_and_times_are_those_of_the_ffmpeg_command_line(name):
    path = next((path for path in all_clips() if path.name == name), None)
    if path is None:
        pytest.skip("this clip is not in the repository")
    facts = FACTS[name]
    frames = load_quietly(path, sampling="all", resize=facts_of)  # no clip is held in memory whole
    count = len(frames) if name in DAMAGED else len(facts["seconds"])
    assert len(frames) == count
    np.testing.assert_allclose(frames.seconds, facts["seconds"][:count], atol=2e-5)
    if "mean_rgb" in facts:  # 10 bits: chroma is interpolated in another way there, so colours are compared loosely
        np.testing.assert_allclose(frames.pixels[:, 1:], facts["mean_rgb"], atol=1.5)
    else:
        known = facts["md5"][:count]
        assert [f"{int(number):08x}" for number in frames.pixels[: len(known), 0]] == known


@names
def test_key_frames_are_those_that_the_decoder_marks(path):
    _, keys = decode_everything(path)
    with open_clip(path, Opening()) as clip:
        if isinstance(clip, VideoFile) and clip.is_seekable and path.name not in DAMAGED:
            # The first frame counts even where the key frame that it needs is hidden by an edit list.
            assert [key for key in clip.keys.tolist() if key] == [key for key in keys if key]


def encode(path: Path, frames: int, **options: str) -> Path:
    """A short H.264 file of moving noise: every frame is unlike every other."""
    chance = np.random.default_rng(0)
    world = chance.integers(0, 255, (64, 256, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(frames):
            picture = np.ascontiguousarray(world[:, number : number + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=12:bframes=3:b-pyramid=normal:scenecut=0"}
GRADUAL_REFRESH = {"x264-params": "intra-refresh=1:keyint=20"}


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
@pytest.mark.parametrize("options", [OPEN_GROUPS, GRADUAL_REFRESH], ids=["open groups", "gradual refresh"])
def test_streams_whose_key_frames_do_not_close_everything_off(tmp_path, suffix, options):
    path = encode(tmp_path / f"clip.{suffix}", 100, **options)
    expected, _ = decode_everything(path)
    for indices in ([97], [13, 40, 41, 71], [60, 2, 99]):
        frames = load_quietly(path, indices=indices)
        assert [digest(picture) for picture in frames] == [expected[number] for number in indices]


def test_only_the_needed_frames_are_decoded(tmp_path, monkeypatch):
    path = encode(tmp_path / "clip.mp4", 150, **{"x264-params": "keyint=10:scenecut=0"})
    fed = []
    decode = VideoFile._decode

    def counting(self, packets=None, wanted=None):
        def count():
            for packet in packets:
                fed.append(packet.size > 0)
                yield packet

        return decode(self, count() if packets is not None else None, wanted)

    monkeypatch.setattr(VideoFile, "_decode", counting)
    frames = load_video(path, indices=[5, 95, 96, 140])
    assert frames.indices == [5, 95, 96, 140]
    assert sum(fed) <= 8 + 9 + 3  # two groups of 10, and the first frame of a third; some slack for reordering


def test_a_second_stream_can_be_chosen_and_a_missing_one_is_refused(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=5) for _ in range(2)]
        for side, stream in zip((32, 64), streams):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for _ in range(3):
            for side, stream in zip((32, 64), streams):
                picture = np.zeros((side, side, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    assert load_video(path, num_frames=3).shape == (3, 32, 32, 3)
    assert load_video(path, num_frames=3, stream=1).shape == (3, 64, 64, 3)
    assert probe_video(path, stream=1).size == (64, 64)
    with pytest.raises(ValueError, match=r"has 2 video stream\(s\), numbered from 0; there is no stream 2"):
        load_video(path, stream=2)


def test_rotated_clips_stand_upright():
    for name, rotation in (("rot90.mov", 270), ("rot270.mov", 90)):
        assert load_video(VIDEOS / name, num_frames=1).shape == (1, 568, 320, 3)
        info = probe_video(VIDEOS / name)
        assert (info.size, info.rotation) == ((320, 568), rotation)


def test_pixels_that_are_not_square_are_stretched_unless_told_otherwise():
    path = VIDEOS / "flower_sar2.mp4"
    assert load_video(path, num_frames=2).shape == (2, 270, 480, 3)
    assert load_video(path, num_frames=2, square_pixels=False).shape == (2, 270, 240, 3)
    assert probe_video(path).size == (480, 270)


def test_a_stream_that_changes_size_comes_in_its_first_size():
    with pytest.warns(UserWarning) as said:
        frames = load_video(VIDEOS / "size_change.ts", num_frames=4)
    assert frames.shape == (4, 270, 480, 3)
    assert any("changes its frame size" in str(warning.message) for warning in said)


def test_full_range_colour_is_used_to_its_ends():
    pixels = load_quietly(VIDEOS / "flower_gray.mp4", num_frames=4).pixels
    with av.open(str(VIDEOS / "flower_gray.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuvj420p"
        luma = frame.to_ndarray()[:270]
    assert abs(int(pixels[0].mean()) - int(luma.mean())) <= 1  # limited range would stretch it by 255 / 219


@pytest.mark.parametrize("path", all_clips(), ids=lambda path: path.name)
def test_probing_counts_what_is_there(path):
    info = probe_video(path)
    expected, _ = decode_everything(path)
    assert info.frames == len(expected) or path.name in DAMAGED
    assert info.duration > 0 and info.fps > 0 and info.key_frames >= 1
    assert info.fps == pytest.approx(info.frames / info.duration, rel=0.03)


def test_hidden_reference_frames_of_vp8_do_not_count():
    path = VIDEOS / "hidden_vp8.webm"
    with av.open(str(path)) as container:
        packets = sum(1 for packet in container.demux(video=0) if packet.size)
    expected, _ = decode_everything(path)
    assert packets > len(expected)  # else this test shows nothing
    assert probe_video(path).frames == len(expected)


def test_the_place_of_a_file_does_not_matter(tmp_path, monkeypatch):
    expected = load_video(VIDEOS / "rot90.mov", num_frames=3).pixels
    data = (VIDEOS / "rot90.mov").read_bytes()
    for name in ("12:30.mp4", "a%03d.mov", "-i.png", "ünï.mp4"):
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(load_video(tmp_path / name, num_frames=3).pixels, expected)
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(load_video(name, num_frames=3).pixels, expected)
    assert find_source(tmp_path / "12:30.mp4").path.is_absolute()
