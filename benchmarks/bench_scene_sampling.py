"""How often 8 frames of a 10-minute clip show its one 3-second event: `scene` against `uniform`, on rendered clips.

Each clip is a real H.264 file (x264 through PyAV) of 2400 frames at 4 frames a second, 96x64: one to six shots of a
textured world with sensor noise, of which some pan, some drift in light, and most have an object that moves all
the time, so that change alone is not the event. The event is one of: an object crosses, an object appears and stays
for 3 seconds, part of the picture changes colour, or a short cut to elsewhere. Run:
`python benchmarks/bench_scene_sampling.py --clips 200 --workers 2` (about five minutes on two cores).
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from onlooker.media import load_video

WIDTH, HEIGHT, RATE, SECONDS, EVENT_SECONDS = 96, 64, 4, 600, 3
EVENTS = ("crosses", "appears", "recolours", "cuts away")
POLICIES = ("uniform", "linspace", "keyframes", "scene")


@dataclass
class Clip:
    """One rendered clip: the file, and where its event is."""

    data: bytes
    event: str
    first: int  # frames of the event: first to last, last not included
    last: int


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth random picture, float [height, width, 3]."""
    picture = np.zeros((height, width, 3))
    for cells in (4, 12):
        grid = rng.uniform(0, 255, (cells + 1, 2 * cells + 1, 3))
        y, x = np.linspace(0, cells - 1e-6, height), np.linspace(0, 2 * cells - 1e-6, width)
        top, left = y.astype(int), x.astype(int)
        down, right = (y - top)[:, None, None], (x - left)[None, :, None]
        upper = grid[top][:, left] * (1 - right) + grid[top][:, left + 1] * right
        lower = grid[top + 1][:, left] * (1 - right) + grid[top + 1][:, left + 1] * right
        picture += (upper * (1 - down) + lower * down) / 2
    return picture


def disc(picture: np.ndarray, y: float, x: float, radius: float, colour: np.ndarray) -> None:
    """Draw a filled circle."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    picture[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = colour


def render(seed: int) -> Clip:
    """Draw and encode one clip."""
    rng = np.random.default_rng(seed)
    count = SECONDS * RATE
    length = EVENT_SECONDS * RATE
    first = int(rng.integers(0, count - length))
    event = EVENTS[seed % len(EVENTS)]
    shots = int(rng.integers(1, 7))
    cuts = [0, *sorted(rng.choice(np.arange(40, count - 40), shots - 1, replace=False)), count]
    noise = rng.normal(0, rng.uniform(0.5, 3), (32, HEIGHT, WIDTH, 1))
    colour, elsewhere = rng.uniform(0, 255, 3), texture(rng, HEIGHT, WIDTH)
    radius = rng.uniform(5, 10)  # 1 to 5 % of the picture
    place = rng.uniform(0.25, 0.75, 2) * (HEIGHT, WIDTH)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for shot in range(shots):
            world = texture(rng, HEIGHT, 2 * WIDTH)
            pan, light = rng.choice([0.0, 0.0, 0.05, 0.2]), rng.choice([0, 0, 25])
            walker, walks = rng.uniform(0, 255, 3), rng.random() < 0.6
            for number in range(cuts[shot], cuts[shot + 1]):
                left = int(WIDTH / 2 + WIDTH / 2 * math.sin(pan * number / RATE))
                picture = world[:, left : left + WIDTH] + light * math.sin(number / RATE / 40)
                if walks:
                    step = number / RATE
                    disc(picture, HEIGHT * 0.8, WIDTH * (0.5 + 0.4 * math.sin(step / 5)), 5, walker)
                if first <= number < first + length:
                    done = (number - first) / length
                    if event == "crosses":
                        disc(picture, place[0], WIDTH * done, radius, colour)
                    elif event == "appears":
                        disc(picture, place[0], place[1], radius, colour)
                    elif event == "recolours":
                        picture[HEIGHT // 4 : HEIGHT // 2, WIDTH // 4 : WIDTH // 2] = colour
                    else:
                        picture = elsewhere.copy()
                picture = np.clip(picture + noise[rng.integers(32)], 0, 255).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Clip(file.getvalue(), event, first, first + length)


def measure(seed: int) -> tuple[str, dict[str, bool], dict[str, float]]:
    """Render one clip and say which policies see its event, and what they cost."""
    import warnings

    warnings.simplefilter("ignore")
    clip = render(seed)
    hits, seconds = {}, {}
    for policy in POLICIES:
        start = time.process_time()
        frames = load_video(clip.data, num_frames=8, sampling=policy, threads=1)
        seconds[policy] = time.process_time() - start
        hits[policy] = any(clip.first <= number < clip.last for number in frames.indices)
    return clip.event, hits, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; the others follow")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        results = list(pool.imap_unordered(measure, range(arguments.seed, arguments.seed + arguments.clips)))
    print(f"{arguments.clips} clips of {SECONDS} s, one event of {EVENT_SECONDS} s each, 8 frames")
    print(f"{'policy':10} {'all':>6}", *(f"{event:>10}" for event in EVENTS), "  CPU s per clip")
    rates = {}
    for policy in POLICIES:
        rates[policy] = np.mean([hits[policy] for _, hits, _ in results])
        by_event = [[hits[policy] for event, hits, _ in results if event == wanted] for wanted in EVENTS]
        cost = np.median([seconds[policy] for _, _, seconds in results])
        print(
            f"{policy:10} {rates[policy]:6.1%}",
            *(f"{np.mean(some or [0]):10.1%}" for some in by_event),
            f"  {cost:.2f}",
        )
    gain = 100 * (rates["scene"] - rates["uniform"])
    print(f"scene - uniform: {gain:.1f} points; {time.perf_counter() - start:.0f} s in all")
    if gain < 20:
        raise SystemExit("scene has to be at least 20 points ahead of uniform")


if __name__ == "__main__":
    main()
