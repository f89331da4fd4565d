"""The page about training data does what it says."""

from __future__ import annotations

import re
from pathlib import Path

from onlooker.train.world import vocabulary

PAGE = (Path(__file__).parents[2] / "docs" / "training-data.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 3 and names["frames"].shape == (8, 56, 56, 3) and len(names["record"].turns) == 8


def test_numbers_of_the_page_are_those_of_the_code():
    assert f"{len(vocabulary())} words and marks" in PAGE
