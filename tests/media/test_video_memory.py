"""Going through a long clip takes no more memory than going through a short one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

RATE, PART = 10, 60  # frames a second, seconds of the clip that is repeated


@pytest.fixture(scope="module")
def part(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "part.mp4"
    world = np.random.default_rng(0).integers(0, 255, (120, 960, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(RATE * PART):
            picture = np.ascontiguousarray(world[:, number : number + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def repeat(part: Path, times: int, target: Path) -> Path:
    with av.open(str(target), "w") as output:
        stream = None
        for number in range(times):
            with av.open(str(part)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is not None:
                        packet.pts += number * video.duration
                        packet.dts += number * video.duration
                        packet.stream = stream
                        output.mux(packet)
    return target


def peak_mebibytes(path: Path) -> float:
    code = f"""
        import resource
        from onlooker.media import iter_windows
        frames = 0
        for window in iter_windows({str(path)!r}, 30.0, num_frames=8, threads=1):
            frames += len(window)
        print(frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    frames, peak = done.stdout.split()
    with av.open(str(path)) as container:
        assert int(frames) == 8 * round(container.duration / 1e6 / 30)
    return float(peak)


@pytest.mark.slow
def test_windows_of_an_hour_peak_where_those_of_ten_minutes_do(part, tmp_path):
    short = peak_mebibytes(repeat(part, 10, tmp_path / "10.mp4"))
    long = peak_mebibytes(repeat(part, 60, tmp_path / "60.mp4"))
    assert long <= 1.05 * short, (short, long)
