"""Eight frames of a clip: `load_video` against the documents' `read_video_pyav`, in turns, frames compared.

Clips are one real clip repeated without re-encoding, so group lengths and content stay those of the original. Lengths
that are no multiples of the clip keep the eight frames from falling on its key frames. With `--encoded` they are the
clip's frames at phone sizes in H.264, by how far apart the key frames stand. Wall seconds; each way sets its own
threads. Run: `python benchmarks/bench_video.py --clip CLIP.mp4 --minutes 0.45 1.9 19.3`, or with `--encoded`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from onlooker.media import load_video

CLIP = Path(__file__).parents[1] / "tests" / "data" / "media" / "videos" / "car_single_gop.mp4"


def repeat(clip: Path, minutes: float, target: Path) -> Path:
    """Copy the packets of a clip one after the other until `minutes` are full."""
    with av.open(str(target), "w") as output:
        stream, shift = None, 0
        while True:
            with av.open(str(clip)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                length = video.duration
                for packet in container.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    output.mux(packet)
                    if packet.dts * video.time_base >= minutes * 60:
                        return target
                shift += length


#: name, seconds, size, x264's options
ENCODED = [
    ("10 s 720p, groups as x264 likes", 10, (1280, 720), {}),
    ("1 min 1080p, groups of 30", 60, (1920, 1080), {"g": "30"}),
    ("2 min 1080p, groups of 250", 120, (1920, 1080), {"g": "250", "sc_threshold": "0"}),
]


def encode(clip: Path, target: Path, seconds: int, size: tuple[int, int], options: dict[str, str]) -> Path:
    """The clip's frames over and over, at 30 a second."""
    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "veryfast", **options})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        count = 0
        while count < seconds * 30:
            with av.open(str(clip)) as container:
                for frame in container.decode(video=0):
                    if count == seconds * 30:
                        break
                    frame = frame.reformat(*size, format="yuv420p")
                    frame.pts, frame.time_base, frame.pict_type = count, Fraction(1, 30), 0
                    output.mux(stream.encode(frame))
                    count += 1
        output.mux(stream.encode(None))
    return target


def documents(path: Path) -> np.ndarray:
    """What the documents do: decode from the start, keep eight."""
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        indices = np.arange(0, total, total / 8).astype(int)
        frames = []
        for number, frame in enumerate(container.decode(video=0)):
            if number > indices[-1]:
                break
            if number in indices:
                frames.append(frame)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.45, 1.9, 19.3])
    parser.add_argument("--encoded", action="store_true", help="clips at phone sizes instead")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "clip.mp4"
        clips = [(f"{each:g} min", partial(repeat, arguments.clip, each, target)) for each in arguments.minutes]
        if arguments.encoded:
            clips = [(name, partial(encode, arguments.clip, target, *rest)) for name, *rest in ENCODED]
        for name, make in clips:
            path = make()
            seconds: dict[str, list[float]] = {"documents": [], "load_video": []}
            for _ in range(arguments.rounds):
                start = time.perf_counter()
                expected = documents(path)
                middle = time.perf_counter()
                frames = load_video(path, num_frames=8)
                seconds["load_video"].append(time.perf_counter() - middle)
                seconds["documents"].append(middle - start)
            ratios = sorted(slow / fast for slow, fast in zip(seconds["documents"], seconds["load_video"]))
            same = "bit-equal" if np.array_equal(expected, frames.pixels) else "NOT EQUAL"
            print(
                f"{name}: documents {statistics.median(seconds['documents']):.2f} s, load_video "
                f"{statistics.median(seconds['load_video']):.2f} s: {statistics.median(ratios):.1f}x "
                f"({ratios[0]:.1f}..{ratios[-1]:.1f}), {same}"
            )


if __name__ == "__main__":
    main()
