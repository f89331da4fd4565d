"""Where the test clips are, and what decoding them from the first frame to the last gives."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import av
import numpy as np

MEDIA = Path(__file__).parents[1] / "data" / "media"
VIDEOS = MEDIA / "videos"
SHARED = Path(__file__).parents[3] / "shared" / "media" / "videos"  # the larger ones, where they are at hand
FACTS = json.loads((MEDIA / "video_facts.json").read_text(encoding="utf-8"))
BAD = {"audio_only.m4a", "audio_only_bear.ogg", "cover_art.mp3", "empty.mp4", "text.mp4", "truncated_no_moov.mp4"}
DAMAGED = {"corrupted_mid.mp4", "truncated_faststart.mp4", "truncated_vp9.webm"}


def all_clips() -> list[Path]:
    """Every clip with frames: those of the repository, and those beside the checkout."""
    found = {path.name: path for folder in (SHARED, VIDEOS) if folder.is_dir() for path in folder.iterdir()}
    return [path for name, path in sorted(found.items()) if name not in BAD]


def digest(picture: np.ndarray) -> str:
    return hashlib.md5(np.ascontiguousarray(picture).tobytes()).hexdigest()


@cache
def decode_everything(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Digests of all frames by decoding from the start, as far as the file goes, and which of them are key frames."""
    digests, keys = [], []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(container.streams.video[0]):
                if frame.key_frame:
                    keys.append(len(digests))
                digests.append(digest(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)))
        except av.error.FFmpegError:
            pass
    return tuple(digests), tuple(keys)
