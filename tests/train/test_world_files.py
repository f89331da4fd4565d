"""Captions, hard negatives, and the world as files: what is written is what other readers find."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from onlooker.media import load_image, load_video, probe_video
from onlooker.train.data import read_records
from onlooker.train.world import (
    Scene,
    WorldRows,
    caption,
    contact_sheet,
    draw_long,
    draw_scene,
    facts_of,
    is_held_out,
    long_frames,
    pair,
    render,
    stated_facts,
    vocabulary,
    words_of,
    write_clip,
    write_long,
    write_still,
    write_world,
)
from onlooker.train.world.files import write_frames


def test_captions_state_every_fact_and_can_be_read_back():
    for seed in range(300):
        scene = draw_scene(seed, is_still=seed % 4 == 0)
        for text in (caption(scene), caption(scene, random.Random(seed))):
            assert stated_facts(text) == facts_of(scene), text
            assert set(words_of(text)) <= set(vocabulary())
    assert stated_facts("we see an orange ring moves left") == {("orange", "ring", "left")}
    assert stated_facts("a red circle moves left and a") != stated_facts("a red circle moves right")


def test_hard_negatives_differ_in_one_fact_and_are_wrong():
    changes = Counter()
    for seed in range(500):
        scene = draw_scene(seed, is_still=seed % 4 == 0)
        made = pair(scene, random.Random(seed))
        changes[made.changed] += 1
        right, wrong = facts_of(scene), stated_facts(made.wrong)
        assert made.caption == caption(scene) and right != wrong and len(right) == len(wrong)
        away = 2 if made.changed == "binding" else 1
        assert len(right - wrong) == away == len(wrong - right)
        assert not any(is_held_out(*fact) for fact in wrong)
    assert set(changes) == {"color", "shape", "motion", "binding"} and min(changes.values()) > 40


def test_clips_are_h264_with_the_same_bytes_every_time(tmp_path):
    scene = draw_scene(4)
    path = write_clip(scene, tmp_path / "a.mp4", size=96, num_frames=16, fps=8)
    again = write_clip(scene, tmp_path / "b.mp4", size=96, num_frames=16, fps=8)
    assert path.read_bytes() == again.read_bytes()
    info = probe_video(path)
    assert (info.codec, info.frames, info.size, info.fps) == ("h264", 16, (96, 96), 8.0)
    read = load_video(path, sampling="all").pixels.astype(float)
    assert np.abs(read - render(scene, 96, 16)).mean() < 6  # half the chroma, and the noise that the encoder drops
    with pytest.raises(ValueError, match="even sides"):
        write_clip(scene, tmp_path / "c.mp4", size=97)
    with pytest.raises(ValueError, match=r"ends with \.mp4"):
        write_clip(scene, tmp_path / "c.avi")
    with pytest.raises(ValueError, match="no frames"):
        write_frames([], tmp_path / "d.mp4")


def test_stills_are_png_without_loss(tmp_path):
    scene = draw_scene(4, is_still=True)
    path = write_still(scene, tmp_path / "a.png", size=64)
    assert path.read_bytes()[:4] == b"\x89PNG" and (load_image(path) == render(scene, 64)[0]).all()


def test_a_written_world_reads_back_as_conversations_and_captions(tmp_path):
    path = write_world(tmp_path, "test", clips=2, stills=1, size=64, num_frames=8, turns=4)
    records = read_records(path)
    assert not records.bad and [record.media[0].kind for record in records] == ["video", "video", "image"]
    assert all(3 <= len(record.turns) <= 4 for record in records) and "<" not in records[0].turns[0].question
    captions = read_records(tmp_path / "captions.jsonl")
    facts = [json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()]
    for record, row in zip(captions, facts):
        row = {name: value for name, value in row.items() if name not in ("id", "video", "image")}
        assert stated_facts(record.caption) == facts_of(Scene.from_dict(row))


def test_the_command_writes_a_world(tmp_path, capsys):
    from onlooker.cli import main

    sizes = ["--clips", "1", "--stills", "1", "--size", "32"]
    assert main(["world", str(tmp_path / "new"), "--split", "combos", "--seed", "5", *sizes]) == 0
    assert "1 clips and 1 stills" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "new" / "media").iterdir())
    assert names == ["combos-clip-00000005.mp4", "combos-still-00000006.png"]
    assert main(["world", str(tmp_path), "--split", "dev"]) != 0
    assert "split 'dev'" in capsys.readouterr().err


def test_rows_are_functions_of_their_number():
    rows, again = (WorldRows("train", 12, size=32, num_frames=4, still_share=0.5, turns=3) for _ in range(2))
    kinds = set()
    for number in (7, 3, 7, 11):
        one, two = rows[number], again[number]
        assert one.turns == two.turns and one.id == two.id
        assert one.media[0].source.tobytes() == two.media[0].source.tobytes()
    kinds = {row.media[0].kind for row in rows}
    assert kinds == {"image", "video"} and len(rows) == 12 == len(list(rows))
    assert WorldRows("train", 2, first=7, size=32, num_frames=4, still_share=0.5, turns=3)[0].turns == rows[7].turns
    assert rows[0].id.startswith("train-") and WorldRows("test", 1, task="caption")[0].caption
    assert len(WorldRows("test", 1, task="question")[0].turns) == 1
    with pytest.raises(ValueError, match="task 'sing'"):
        WorldRows("train", 1, task="sing")


def test_a_long_clip_shows_its_event_for_three_seconds_only(tmp_path):
    clip = draw_long(1, seconds=60.0, num_others=2)
    assert clip.end - clip.start == pytest.approx(3.0) and clip.scene.seconds == 60.0
    others = clip.scene.things[:-1]
    assert all(o.color != clip.event.color and o.shape != clip.event.shape and not o.acts for o in others)
    path = write_long(clip, tmp_path / "long.mp4", size=64, fps=4)
    info = probe_video(path)
    assert info.frames == 240 and info.duration == pytest.approx(60, abs=0.5)
    inside, before, after = (
        load_video(path, seconds=[moment]).pixels[0].astype(float)
        for moment in (clip.start + 1.5, clip.start - 1, clip.end + 1)
    )
    assert (np.abs(inside - before).max(-1) > 60).mean() > 0.01
    assert (np.abs(after - before).max(-1) > 60).mean() < 0.003
    assert stated_facts(clip.query) == {(clip.event.color, clip.event.shape, "still")}
    assert dict(clip.questions)[f"what color is the {clip.event.shape}?"] == clip.event.color
    assert set(words_of(" ".join(question for question, _ in clip.questions))) <= set(vocabulary())
    with pytest.raises(ValueError, match="wanted a part"):
        draw_long(1, seconds=2.0)


def test_ten_minutes_are_never_in_memory_at_once():
    frames = long_frames(draw_long(0), 32, 4)
    first = list(islice(frames, 3))
    assert first[0].shape == (32, 32, 3) and len({frame.tobytes() for frame in first}) >= 1
    assert sum(1 for _ in frames) == 600 * 4 - 3


def test_long_events_are_spread_over_the_clip():
    starts = [draw_long(seed).start for seed in range(60)]
    assert min(starts) < 60 and max(starts) > 530


def test_contact_sheets_show_every_frame():
    clips = [render(draw_scene(seed), 24, 3) for seed in range(3)]
    sheet = np.asarray(contact_sheet(clips, ["one", "two", "three"], scale=2, columns=2))
    assert (sheet[0, 0] == clips[0][0, 0, 0]).all()
    assert sheet.shape == (2 * (48 + 2 + 13 + 3), 2 * (3 * 50 + 6), 3)
