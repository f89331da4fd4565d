"""`scene` finds what happens in a clip; its full measurement is benchmarks/bench_scene_sampling.py."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from onlooker.media import VideoLimits, load_video
from onlooker.media.opening import Opening, open_clip
from onlooker.media.sampling import Stretch
from onlooker.media.scene import _busy_frames, _passing


def render(path: Path, event: range, seconds: int = 240, rate: int = 4) -> Path:
    """A still scene with sensor noise; during `event` (frames) a square crosses it."""
    chance = np.random.default_rng(3)
    world = chance.integers(60, 180, (8, 12, 3)).repeat(8, 0).repeat(8, 1)
    noise = chance.normal(0, 2, (16, 64, 96, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(seconds * rate):
            picture = world + noise[chance.integers(16)]
            if number in event:
                left = 7 * (number - event.start)
                picture[20:34, left : left + 14] = (250, 20, 20)
            picture = np.clip(picture, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("begin", [101, 517, 800])
def test_scene_shows_a_short_event_that_uniform_misses(tmp_path, begin):
    event = range(begin, begin + 12)
    path = render(tmp_path / "clip.mp4", event)
    assert not set(load_video(path).indices) & set(event)
    frames = load_video(path, sampling="scene")
    assert set(frames.indices) & set(event)
    assert frames.indices == sorted(set(frames.indices)) and len(frames) == 8


def test_scene_takes_one_frame_of_each_shot():
    shots = np.random.default_rng(0).integers(0, 255, (5, 6, 6, 3), np.uint8)
    clip = shots.repeat([30, 3, 40, 7, 20], axis=0)
    frames = load_video(clip, num_frames=5, sampling="scene")
    starts = np.cumsum([30, 3, 40, 7, 20])
    assert np.searchsorted(starts, frames.indices, side="right").tolist() == [0, 1, 2, 3, 4]


def test_scene_looks_at_no_more_frames_than_the_limit():
    clip = np.random.default_rng(0).integers(0, 255, (200, 6, 6, 3), np.uint8)
    frames = load_video(clip, num_frames=4, sampling="scene", limits=VideoLimits(max_candidates=10))
    assert set(frames.indices) <= {i * 20 for i in range(10)}


def test_scene_of_a_clip_where_nothing_happens_still_gives_different_frames():
    frames = load_video(np.zeros((50, 6, 6, 3), np.uint8), num_frames=8, sampling="scene")
    assert len(set(frames.indices)) == 8


def test_seconds_that_take_unusual_bytes_are_found_without_decoding(tmp_path):
    event = range(517, 529)
    with open_clip(render(tmp_path / "clip.mp4", event), Opening()) as clip:
        assert set(_busy_frames(Stretch(clip), 1)) <= set(event)
        assert len(_busy_frames(Stretch(clip), 1)) == 1


def test_what_comes_and_goes_is_told_from_what_changes_for_good():
    views = np.zeros((40, 12), np.float32)
    views[:, 0] = np.arange(40) * 5  # a slow pan
    views[20:, 1] = 500  # a cut
    views[31, 2] = 60  # something passes
    assert _passing(views, 3, apart_from=[])[0] == 31
    assert 31 not in _passing(views, 3, apart_from=[30])
