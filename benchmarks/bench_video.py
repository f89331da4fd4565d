"""Eight frames of a clip: `load_video` against the documents' `read_video_pyav`, in turns, frames compared.

Clips are one real clip repeated without re-encoding, so group lengths and content stay those of the original. Lengths
that are no multiples of the clip keep the eight frames from falling on its key frames. Wall seconds; each way sets its
own threads. Run: `python benchmarks/bench_video.py --clip CLIP.mp4 --minutes 0.45 1.9 19.3`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
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
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minutes in arguments.minutes:
            path = repeat(arguments.clip, minutes, Path(folder) / "clip.mp4")
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
                f"{minutes:g} min: documents {statistics.median(seconds['documents']):.2f} s, load_video "
                f"{statistics.median(seconds['load_video']):.2f} s: {statistics.median(ratios):.1f}x "
                f"({ratios[0]:.1f}..{ratios[-1]:.1f}), {same}"
            )


if __name__ == "__main__":
    main()
