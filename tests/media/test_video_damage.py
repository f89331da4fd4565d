"""Damaged, hostile and impossible videos: one line that says what is wrong, no hang, nothing left open."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from onlooker.errors import MediaError
from onlooker.media import VideoLimits, iter_windows, load_video, probe_video
from tests.media.clips import MEDIA, VIDEOS, decode_everything, digest


def refusal(source, **options) -> str:
    with pytest.raises(MediaError) as caught:
        load_video(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_a_file_not_found_error():
    with pytest.raises(FileNotFoundError, match="^no such file: nowhere.mp4$"):
        load_video("nowhere.mp4")
    with pytest.raises(FileNotFoundError):
        probe_video("nowhere.mp4")


def test_files_that_are_no_video_say_what_they_are(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert refusal(tmp_path / "empty.mp4").endswith("empty.mp4 is empty (0 bytes)")
    assert "as a video: damaged or not a video (Invalid data found" in refusal(VIDEOS / "text.mp4")
    assert refusal(VIDEOS / "audio_only_bear.ogg").endswith("has no video stream (only audio)")
    assert refusal(VIDEOS / "cover_art.mp3").endswith("has no video stream (only audio)")
    (tmp_path / "folder").mkdir()
    assert "is a directory without image files" in refusal(tmp_path / "folder")
    with pytest.raises(TypeError, match="int is not a media source"):
        load_video(3)


def test_a_file_without_its_index_is_refused(tmp_path):
    data = (VIDEOS / "flower_gray.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    assert "damaged or not a video" in refusal(tmp_path / "cut.mp4")


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile other.ts\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_cannot_make_other_files_be_read(tmp_path, kind):
    (tmp_path / "other.ts").write_bytes((VIDEOS / "flower_start1.4.ts").read_bytes())
    opened = 0
    for name in ("list.m3u8", "list.mp4", "list.ffconcat"):
        path = tmp_path / name
        path.write_text(PLAYLISTS[kind])
        assert "as a video" in refusal(path)
        assert "as a video" in refusal(path.read_bytes())
        try:
            with av.open(str(path)) as container:
                opened += len(container.streams.video)
        except av.error.FFmpegError:
            pass
    assert opened  # left to itself, PyAV does read the other file: else this test shows nothing


@pytest.mark.parametrize(
    ("name", "decoded", "declared"), [("corrupted_mid.mp4", 28, 50), ("truncated_faststart.mp4", 88, 150)]
)
def test_a_damaged_file_gives_what_decodes_and_says_so(name, decoded, declared):
    expected, _ = decode_everything(VIDEOS / name)
    with pytest.warns(UserWarning, match=f"damaged, {decoded} of {declared} frames decoded"):
        frames = load_video(VIDEOS / name, num_frames=8)
    assert len(frames) == 8
    assert frames.indices == [i * decoded // 8 for i in range(8)]
    assert [digest(picture) for picture in frames] == [expected[number] for number in frames.indices]
    assert frames.warnings == [f"{VIDEOS / name}: damaged, {decoded} of {declared} frames decoded"]


def test_a_cut_webm_says_that_it_ends_early():
    with pytest.warns(UserWarning, match=r"damaged, it ends after 1\.67 s of 3\.00 s"):
        assert load_video(VIDEOS / "truncated_vp9.webm", num_frames=4).indices == [0, 12, 25, 37]


def test_damage_in_the_middle_does_not_matter_to_frames_before_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = load_video(VIDEOS / "corrupted_mid.mp4", indices=[3, 9])
    expected, _ = decode_everything(VIDEOS / "corrupted_mid.mp4")
    assert [digest(picture) for picture in frames] == [expected[3], expected[9]]


@pytest.mark.slow
def test_a_damaged_file_never_hangs_the_decoder():
    code = f"""
        import warnings
        from onlooker.media import load_video
        warnings.simplefilter("ignore")
        for number in range(40):
            assert len(load_video({str(VIDEOS / "corrupted_mid.mp4")!r}, num_frames=1 + number % 8)) == 1 + number % 8
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "done", done.stderr


def test_pyav_logging_is_never_touched():
    source = Path(load_video.__code__.co_filename).parent
    assert not [file.name for file in source.glob("*.py") if "av.logging" in file.read_text(encoding="utf-8")]
    assert av.logging.get_level() is None


def encode_blank(path: Path, width: int, height: int, frames: int = 2) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_limits_are_said_with_what_came_and_can_be_raised(tmp_path):
    wide = encode_blank(tmp_path / "wide.mp4", 1024, 16)
    small = VideoLimits(max_megapixels=0.01)
    assert "1024x16 frames are over the limit of 0.01 megapixels" in refusal(wide, limits=small)
    assert "1024x16 is 64:1, over the limit of 50:1" in refusal(wide, limits=VideoLimits(max_side_ratio=50))
    assert load_video(wide, num_frames=2).shape == (2, 16, 1024, 3)
    clip = VIDEOS / "flower_gray.mp4"
    assert "65 frames are over the limit of 64 for one call" in refusal(clip, num_frames=65)
    assert "60 frames are over the limit of 20" in refusal(clip, sampling="all", limits=VideoLimits(max_frames=20))
    assert "has over 59 frames" in refusal(clip, limits=VideoLimits(max_indexed_frames=59))
    assert "2 seconds are over the limit of 1.5" in refusal(clip, limits=VideoLimits(max_seconds=1.5))
    raw = VIDEOS / "flower_raw.h264"
    assert "has to be decoded from its start, and has over 20" in refusal(
        raw, limits=VideoLimits(max_sequential_frames=20)
    )
    assert "is over the limit of 0.007812 MiB" in refusal(raw.read_bytes(), limits=VideoLimits(max_bytes=2**13))
    with pytest.raises(ValueError, match="max_frames 0 is not above 0"):
        VideoLimits(max_frames=0)


def test_hostile_sizes_are_refused_before_their_frames_are_decoded(tmp_path):
    huge = encode_blank(tmp_path / "huge.mp4", 8192, 4352, frames=1)
    assert "8192x4352 frames are over the limit of 35 megapixels" in refusal(huge)


def test_cut_and_flipped_files_are_read_or_refused_but_never_crash(tmp_path):
    chance = np.random.default_rng(1)
    for name in ("flower_fragmented.mp4", "odd_35x23_yuv444.mp4", "flower_mpeg4.avi", "flower_start1.4.ts"):
        whole = (VIDEOS / name).read_bytes()
        for part in (0.1, 0.5, 0.9):
            cut = whole[: int(len(whole) * part)]
            data = bytearray(whole)
            for place in chance.integers(0, len(data), 20):
                data[place] ^= int(chance.integers(1, 256))
            for damaged in (cut, bytes(data)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        assert len(load_video(damaged, num_frames=4)) == 4
                    except MediaError as error:
                        assert "\n" not in str(error)


def test_files_are_closed_on_every_path(tmp_path):
    process = psutil.Process()
    paths = [VIDEOS / "flower_gray.mp4", VIDEOS / "corrupted_mid.mp4", MEDIA / "animated_flower.webp"]

    def use_all():
        for path in paths:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_video(path, num_frames=2)
                probe_video(path)
                with pytest.raises(ValueError, match="there is no frame"):
                    load_video(path, indices=[10**6])
                for _ in iter_windows(path, 0.5):
                    break
        for path in (VIDEOS / "text.mp4", VIDEOS / "cover_art.mp3"):
            with pytest.raises(MediaError):
                load_video(path)

    use_all()
    gc.collect()
    before = {file.path for file in process.open_files()}
    threads = process.num_threads()
    for _ in range(3):
        use_all()
    assert {file.path for file in process.open_files()} <= before
    assert process.num_threads() <= threads + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refusal(tmp_path / "pipe.mp4").endswith("is not a regular file")
