"""Small random checkpoints of every kind, in float32, written once for the session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.random_checkpoint import write_checkpoint
from onlooker import Onlooker, checkpoints


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    small = {"image_size": 28, "num_query_tokens": 4}
    kinds = ("opt", "t5", "matching", "instructblip-llama", "instructblip-t5", "instructblip-opt", "video-llava")
    made = {kind: write_checkpoint(root / kind, kind, **small) for kind in kinds}
    made["old"] = write_checkpoint(root / "old", "opt", has_image_token=False, **small)
    return made


#: of the checkpoints that come with the package -> a random one of the same kind
STAND_INS = {
    "blip2-tiny": "t5",
    "blip2-itm-tiny": "matching",
    "instructblipvideo-tiny": "instructblip-llama",
    "video-llava-tiny": "video-llava",
}


@pytest.fixture
def embedded(folders, tmp_path_factory, monkeypatch):
    """The package's folder of checkpoints, with random ones in the places of the trained; gives the folder."""
    root = tmp_path_factory.mktemp("embedded")
    for name, kind in STAND_INS.items():
        (root / name).symlink_to(folders[kind])
    monkeypatch.setattr(checkpoints, "FOLDER", root)
    return root


@pytest.fixture
def no_hub(monkeypatch):
    """Neither the network nor the hub's client may be asked."""

    def refuse(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("huggingface_hub.HfApi", refuse)


@pytest.fixture(scope="session")
def load(folders):
    """The pipeline of a checkpoint, loaded once."""
    loaded = {}

    def give(kind: str) -> Onlooker:
        if kind not in loaded:
            loaded[kind] = Onlooker.from_pretrained(folders[kind], dtype="fp32", device="cpu")
        loaded[kind].cache.clear()  # each test begins with nothing known
        return loaded[kind]

    return give


@pytest.fixture(params=["opt", "t5"])
def eyes(request, load) -> Onlooker:
    return load(request.param)


VIDEO_KINDS = ["video-llava", "instructblip-llama", "instructblip-t5"]
VIDEOS = Path(__file__).parent.parent / "data" / "media" / "videos"
CLIP = str(VIDEOS / "flower_hevc.mp4")  # 3 s, 90 frames
SHORT_CLIP = str(VIDEOS / "five_frames.mp4")


@pytest.fixture(params=VIDEO_KINDS)
def watcher(request, load) -> Onlooker:
    """The pipeline of every kind that takes videos."""
    return load(request.param)


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
