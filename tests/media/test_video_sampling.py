"""Sampling policies: how many frames, which ones, and what is said when there are too few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlooker.errors import MediaError
from onlooker.media import VideoLimits, iter_windows, load_video
from onlooker.media.opening import Opening, open_clip
from onlooker.media.sampling import Stretch, at_rate, by_time, linspace, uniform
from tests.media.clips import VIDEOS


def clip_of(count: int, fps: float | None = None):
    """A clip of `count` frames whose pixels tell their number."""
    return open_clip(np.arange(count, dtype=np.uint8).repeat(12).reshape(count, 2, 2, 3), Opening(source_fps=fps))


counts, wanteds = st.integers(1, 250), st.integers(1, 64)


@given(counts, wanteds)
def test_uniform_is_the_documents_arange_in_whole_numbers(count, wanted):
    chosen = uniform(Stretch(clip_of(count)), wanted)
    assert chosen == [i * count // wanted for i in range(wanted)]
    if wanted in (1, 2, 4, 8, 16):  # there the documents' floats are exact
        assert chosen == np.arange(0, count, count / wanted).astype(int).tolist()


@given(counts, wanteds)
def test_linspace_has_both_ends_as_video_llava_was_trained(count, wanted):
    chosen = linspace(Stretch(clip_of(count)), wanted)
    assert len(chosen) == wanted
    if count >= wanted:
        assert chosen == np.linspace(0, count - 1, wanted, dtype=int).tolist()
        assert chosen[0] == 0 and (wanted == 1 or chosen[-1] == count - 1)


@given(counts, wanteds, st.floats(0.5, 60), st.floats(0, 0.9), st.floats(0.01, 1))
def test_every_policy_stays_inside_its_stretch_and_in_order(count, wanted, fps, begin, length):
    clip = clip_of(count, fps)
    start = begin * clip.duration
    stretch = Stretch(clip, start, start + length * clip.duration)
    assert 0 <= stretch.first < stretch.last <= count
    for chosen in (uniform(stretch, wanted), linspace(stretch, wanted), by_time(stretch, wanted)):
        assert len(chosen) == wanted
        assert chosen == sorted(chosen)
        assert stretch.first <= chosen[0] and chosen[-1] < stretch.last
    assert all(stretch.first <= number < stretch.last for number in at_rate(stretch, fps / 3))


def test_too_few_frames_are_repeated_with_a_warning_never_silently_fewer():
    with pytest.warns(UserWarning, match="8 frames wanted, 5 found; some are repeated"):
        frames = load_video(VIDEOS / "five_frames.mp4")
    assert frames.indices == [0, 0, 1, 1, 2, 3, 3, 4]
    assert len(frames) == len(frames.seconds) == 8
    assert frames.warnings == [f"{VIDEOS / 'five_frames.mp4'}: 8 frames wanted, 5 found; some are repeated"]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[1] != frames[2]).any()


@pytest.mark.parametrize("sampling", ["linspace", "time", "keyframes", "scene"])
def test_every_policy_gives_the_number_wanted_of_a_short_clip(sampling):
    with pytest.warns(UserWarning, match="frames wanted"):
        assert len(load_video(VIDEOS / "rot90.mov", num_frames=7, sampling=sampling)) == 7


def test_eight_is_the_default():
    assert len(load_video(VIDEOS / "flower_gray.mp4")) == 8


def test_frames_in_time_differ_from_frames_by_number_where_the_rate_varies():
    path = VIDEOS / "flower_vfr.mp4"  # 60 frames in the first 2 seconds, then 3 a second
    by_number, in_time = load_video(path, num_frames=5), load_video(path, num_frames=5, sampling="time")
    assert by_number.seconds[-1] < 2
    assert in_time.seconds == pytest.approx([0, 1, 2, 3, 4], abs=0.34)


def test_seconds_give_what_is_on_the_screen():
    path = VIDEOS / "flower_vfr.mp4"
    frames = load_video(path, seconds=[0, 0.05, 2.5, 5.0])
    whole = load_video(path, sampling="all", limits=VideoLimits(max_frames=None))
    for second, number in zip([0, 0.05, 2.5, 5.0], frames.indices):
        assert whole.seconds[number] <= second
        assert number == len(whole) - 1 or whole.seconds[number + 1] > second
    assert frames.seconds == [whole.seconds[number] for number in frames.indices]


def test_times_count_from_the_first_frame_wherever_the_file_starts():
    for name in ("flower_start1.4.ts", "asl_milk_start33ms.mkv", "negative_pts.mp4", "flower_mpeg4.avi"):
        assert load_video(VIDEOS / name, num_frames=1).seconds == [0.0]


def test_a_window_takes_only_what_begins_in_it():
    frames = load_video(VIDEOS / "flower_gray.mp4", num_frames=4, start=0.5, end=1.0)
    assert frames.indices == [15, 18, 22, 26]  # frames 15 to 29 begin between 0.5005 and 0.9677 s
    assert (frames.start, frames.end) == (0.5, 1.0)
    same = load_video(VIDEOS / "flower_gray.mp4", num_frames=4, sampling="window", start=0.5, end=1.0)
    assert same.indices == frames.indices
    short = load_video(VIDEOS / "flower_gray.mp4", num_frames=1, start=0.51, end=0.52)
    assert short.indices == [15]


def test_fps_takes_a_frame_every_so_often():
    path = VIDEOS / "flower_gray.mp4"
    assert load_video(path, fps=2).indices == [0, 14, 29, 44, 59]
    assert load_video(path, fps=2).indices == load_video(path, fps=2, sampling="fps").indices
    assert load_video(path, sampling="fps").indices == [0, 29, 59]
    with pytest.warns(UserWarning, match="2 frames/s are 5 frames; num_frames keeps 2 of them"):
        assert load_video(path, fps=2, num_frames=2).indices == [0, 29]


def test_key_frames_come_from_the_index():
    assert load_video(VIDEOS / "flower_mpeg4.avi", sampling="keyframes").indices == list(range(0, 90, 12))


def test_negative_indices_count_from_the_end():
    assert load_video(VIDEOS / "flower_gray.mp4", indices=[-1, 0, -60]).indices == [59, 0, 0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sampling": "random"}, "there is no sampling 'random'; give one of uniform, linspace"),
        ({"indices": [60]}, "has 60 frames; there is no frame 60"),
        ({"indices": []}, "does not go with 0 indices"),
        ({"indices": [1], "seconds": [1.0]}, "different ways of choosing"),
        ({"indices": [1], "sampling": "linspace"}, "different ways of choosing"),
        ({"indices": [1, 2], "num_frames": 3}, "num_frames=3 does not go with 2 indices"),
        ({"indices": [1], "start": 0.1}, "start and end do not go with them"),
        ({"seconds": [2.5]}, "is 2.00 s long; there is no frame at 2.5 s"),
        ({"seconds": [-0.1]}, "there is no frame at -0.1 s"),
        ({"sampling": "indices"}, "needs the argument indices"),
        ({"sampling": "query"}, "needs the argument score"),
        ({"sampling": "window"}, "needs start or end"),
        ({"start": 3.0}, "start 3 s is not inside .* which is 2.00 s long"),
        ({"start": 1.0, "end": 1.0}, "end 1 s is not after start 1 s"),
        ({"num_frames": 0}, "num_frames 0 is below 1"),
        ({"fps": 0}, "fps 0 is not above 0"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_a_reason(options, text):
    with pytest.raises(ValueError, match=text):
        load_video(VIDEOS / "flower_gray.mp4", **options)


def test_a_function_can_score_frames_for_a_question():
    path = VIDEOS / "flower_mpeg4.avi"
    seen = []

    def score(pictures):
        seen.extend(picture.shape for picture in pictures)
        assert len(pictures) <= 16
        return [float(len(seen) - len(pictures) + i in (20, 44, 61)) for i in range(len(pictures))]

    frames = load_video(path, num_frames=3, score=score, resize=(32, 48))
    assert frames.indices == [20, 44, 61]
    assert set(seen) == {(32, 48, 3)} and len(seen) == 90
    few = VideoLimits(max_candidates=9)
    seen.clear()
    assert load_video(path, num_frames=2, sampling="query", score=lambda p: range(len(p)), limits=few).indices == [
        70,
        80,
    ]
    with pytest.raises(ValueError, match="wanted one finite number for each"):
        load_video(path, score=lambda pictures: [float("nan")] * len(pictures))


def test_windows_cover_the_clip_once_and_in_order():
    windows = list(iter_windows(VIDEOS / "flower_gray.mp4", 0.6, num_frames=3))  # 2.002 s: 0.2 s are left over
    assert [window.start for window in windows] == pytest.approx([0, 0.6, 1.2, 1.8])
    assert [window.end for window in windows] == pytest.approx([0.6, 1.2, 1.8, 2.002])
    everything = list(iter_windows(VIDEOS / "flower_gray.mp4", 0.6, sampling="all"))
    assert [number for window in everything for number in window.indices] == list(range(60))
    merged = list(iter_windows(VIDEOS / "flower_gray.mp4", 0.96, sampling="all"))
    assert [window.end for window in merged] == [0.96, pytest.approx(2.002)]


def test_windows_of_a_damaged_clip_end_where_it_ends():
    with pytest.warns(UserWarning, match="28 of 50") as said:
        windows = list(iter_windows(VIDEOS / "corrupted_mid.mp4", 1.0, num_frames=2))
    assert [window.indices for window in windows] == [[0, 5], [10, 15], [20, 25]]
    assert len([1 for warning in said if "28 of 50" in str(warning.message)]) == 1


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_windows_need_a_length(seconds):
    with pytest.raises(ValueError, match="give seconds above 0"):
        iter_windows(VIDEOS / "flower_gray.mp4", seconds)


def test_a_limit_holds_for_each_window():
    with pytest.raises(MediaError, match="over the limit of 10"):
        list(iter_windows(VIDEOS / "flower_gray.mp4", 1.0, sampling="all", limits=VideoLimits(max_frames=10)))
