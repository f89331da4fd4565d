"""`make demo`: every answer beside the truth, and a picture of what was looked at."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from examples import demo

ROWS = json.loads((demo.EXAMPLES / "shapes.json").read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore:the model does not know")  # these vocabularies are others
def test_the_demo_tells_every_answer_beside_the_truth_and_draws_what_was_seen(
    embedded, no_hub, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "SHEET", tmp_path / "new" / "demo.png")
    right = demo.demo()
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert len(right) == printed.count("\u2713 ") + printed.count("\u2717 ")
    assert f"{sum(right)} of {len(right)} are right" in words and not all(right)  # these models are random
    for row in ROWS:
        assert f"examples/{row['file']}" in printed and row["caption"] in words
    asked = sum(len(row["questions"]) for row in ROWS)
    assert len(right) == 2 * asked + len(ROWS) + sum(1 + len(row["wrong"]) for row in ROWS if "wrong" in row)
    assert str(tmp_path / "new" / "demo.png") in "".join(printed.split("\n"))
    with Image.open(tmp_path / "new" / "demo.png") as sheet:
        assert sheet.size[0] > 1000 and sheet.size[1] > 2000
    assert max(map(len, printed.splitlines())) <= demo.WIDTH or str(tmp_path) in printed
