"""Peak memory of `ask(..., windows=30)` on clips of 10 and of 60 minutes: it should not grow with the clip.

`python benchmarks/bench_long_video.py` renders the clips (320 x 180 pixels, 10 frames/s, a key frame every 5 s), writes
a small random Video-LLaVA, and asks about each clip in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FPS = 10
ASK = """
import json, sys, time
from pathlib import Path
from onlooker import Onlooker

def mebibytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

model, clip, question, windows = sys.argv[1:]
eyes = Onlooker.from_pretrained(model, dtype="fp32", device="cpu")
loaded = mebibytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on: loading has one of its own
start = time.perf_counter()
answer = eyes.ask(clip, question, windows=float(windows), max_new_tokens=16)
print(json.dumps([len(answer.windows), loaded, mebibytes("VmHWM"), time.perf_counter() - start]))
"""


def ask(model: Path, clip: Path, question: str, windows: float) -> tuple[int, float, float, float]:
    """Ask in a process of its own: number of windows, MiB when the model is loaded, peak MiB from then on, seconds."""
    command = [sys.executable, "-c", ASK, str(model), str(clip), question, str(windows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, loaded, peak, seconds = json.loads(done.stdout)
    return count, loaded, peak, seconds


def render(path: Path, minutes: float, width: int = 320, height: int = 180, fps: int = FPS) -> Path:
    """A clip whose colours and bars change with time."""
    import av
    import numpy as np

    rows, columns = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps, options={"g": str(5 * fps)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(int(minutes * 60 * fps)):
            picture = np.empty((height, width, 3), np.uint8)
            picture[..., 0] = (columns + 3 * number) % 256
            picture[..., 1] = (rows + number // fps) % 256
            picture[..., 2] = number // 60 % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    minutes = parser.parse_args().minutes
    sys.path.insert(0, str(ROOT))
    from examples.random_checkpoint import write_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        model = write_checkpoint(Path(folder) / "model", "video-llava", image_size=56)
        print("| question | clip | windows | loaded, MiB | peak, MiB | seconds |")
        print("|---|---|---|---|---|---|")
        for question in ("Is it raining?", "What happens?"):
            peaks = []
            for each in minutes:
                clip = Path(folder) / f"{each:g}.mp4"
                if not clip.exists():
                    render(clip, each)
                windows, loaded, peak, seconds = ask(model, clip, question, 30.0)
                peaks.append(peak)
                print(
                    f"| {question} | {each:g} min | {windows} | {loaded:.0f} | {peak:.0f} | {seconds:.1f} |", flush=True
                )
            print(f"{question} {minutes[-1]:g} min : {minutes[0]:g} min = {peaks[-1] / peaks[0]:.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
