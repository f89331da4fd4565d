"""Small random checkpoints of every kind, in float32, written once for the session."""

from __future__ import annotations

import numpy as np
import pytest

from examples.random_checkpoint import write_checkpoint
from onlooker import Onlooker


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    small = {"image_size": 28, "num_query_tokens": 4}
    made = {kind: write_checkpoint(root / kind, kind, **small) for kind in ("opt", "t5", "matching")}
    made["old"] = write_checkpoint(root / "old", "opt", has_image_token=False, **small)
    return made


@pytest.fixture(scope="session")
def load(folders):
    """The pipeline of a checkpoint, loaded once."""
    loaded = {}

    def give(kind: str) -> Onlooker:
        if kind not in loaded:
            loaded[kind] = Onlooker.from_pretrained(folders[kind], dtype="fp32", device="cpu")
        return loaded[kind]

    return give


@pytest.fixture(params=["opt", "t5"])
def eyes(request, load) -> Onlooker:
    return load(request.param)


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
