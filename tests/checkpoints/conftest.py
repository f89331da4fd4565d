"""The checkpoints inside the package, each loaded once, in float32."""

from __future__ import annotations

from functools import cache

import pytest

from onlooker import Onlooker
from onlooker.checkpoints import FOLDER


@cache
def _load(name: str) -> Onlooker:
    return Onlooker.from_pretrained(FOLDER / name, dtype="fp32", device="cpu", batch_size=64)


@pytest.fixture(scope="session")
def load():
    """Name -> the checkpoint as `Onlooker`."""
    return _load
