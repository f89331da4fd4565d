"""Writes a data set of the world to a folder, in the format of LLaVA, with captions and facts beside it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from onlooker.train.world.captions import caption
from onlooker.train.world.facts import Scene
from onlooker.train.world.files import write_clip, write_still
from onlooker.train.world.questions import dialogue
from onlooker.train.world.scenes import draw_scene


def write_world(
    folder: str | os.PathLike[str],
    split: str,
    *,
    clips: int,
    stills: int = 0,
    size: int = 224,
    num_frames: int = 32,
    turns: int = 8,
    phrasings: str = "train",
    first: int = 0,
) -> Path:
    """Render scenes to MP4 and PNG, and write what can be asked and said about them.

    Returns:
        The file conversations.json (LLaVA's format). Beside it lie captions.jsonl and facts.jsonl.

    Raises:
        ValueError: an unknown split, or an odd size.
    """
    folder = Path(folder)
    (folder / "media").mkdir(parents=True, exist_ok=True)
    conversations, captions, facts = [], [], []
    for number in range(clips + stills):
        scene = draw_scene(first + number, split, is_still=number >= clips)
        kind, name = _write_medium(scene, folder, size, num_frames)
        captions.append({"id": scene.id, kind: name, "caption": caption(scene)})
        facts.append({"id": scene.id, kind: name, **scene.to_dict()})
        rng = random.Random(f"{scene.id} {phrasings} questions")
        messages: list[dict[str, Any]] = []
        for question in dialogue(scene, rng, turns, phrasings=phrasings):
            marker = "" if messages else f"<{kind}>\n"
            messages.append({"from": "human", "value": marker + question.text})
            messages.append({"from": "gpt", "value": question.answer})
        conversations.append({"id": scene.id, kind: name, "conversations": messages})
    path = folder / "conversations.json"
    path.write_text(json.dumps(conversations, indent=1) + "\n", encoding="utf-8")
    for file, rows in (("captions.jsonl", captions), ("facts.jsonl", facts)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _write_medium(scene: Scene, folder: Path, size: int, num_frames: int) -> tuple[str, str]:
    """Render one file; give back its kind and its name within the folder."""
    kind, name = ("image", f"media/{scene.id}.png") if scene.is_still else ("video", f"media/{scene.id}.mp4")
    if scene.is_still:
        write_still(scene, folder / name, size=size)
    else:
        write_clip(scene, folder / name, size=size, num_frames=num_frames)
    return kind, name
