"""Each data format becomes the same records; what cannot be used is skipped with its reason."""

from __future__ import annotations

import io
import json
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image

from onlooker.train.data import LoadedRecords, Mixture, load_record, read_records

PICTURE = np.full((8, 10, 3), 200, np.uint8)


def png(array=PICTURE):
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(PICTURE).save(tmp_path / name)
    (tmp_path / "c.mp4").write_bytes(b"not a video")
    return tmp_path


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(path, **options):
    """Records, and reasons of the rows that were skipped by row; the report is the only warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = read_records(path, **options)
    assert len(caught) == bool(records.bad)
    if records.bad:
        text = str(caught[0].message)
        assert f"{len(records.bad)} of {len(records) + len(records.bad)} rows skipped" in text
        assert str(records.bad[0]) in text
    return records, {bad.row: bad.reason for bad in records.bad}


def said(*texts):
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


def test_llava_and_video_llava_conversations(folder):
    rows = [
        {"id": "x", "image": "a.jpg", "conversations": said("<image>\nwhat?", "a cat", "why?", "no idea")},
        {"id": 7, "video": "c.mp4", "conversations": said("what happens?\n<video>", "nothing")},
        {"conversations": said("hello", "hi")},
        {"id": "no file", "image": "gone.jpg", "conversations": said("<image>\nq", "a")},
        {"id": "turns", "image": "a.jpg", "conversations": said("<image>\nq", "a", "q")},
        {"id": "markers", "image": "a.jpg", "conversations": said("<image><image>\nq", "a")},
        {"id": "kind", "image": "a.jpg", "conversations": said("<video>\nq", "a")},
        {"id": "empty", "image": "a.jpg", "conversations": said("<image>\nq", " ")},
        {"id": "roles", "image": "a.jpg", "conversations": said("<image>\nq", "a")[::-1]},
        {"id": "none", "image": "a.jpg"},
        "not an object",
        {"id": "last", "image": ["a.jpg", "b.jpg"], "conversations": said("<image> <image> which?", "both")},
    ]
    records, bad = read(write(folder / "chat.json", rows))
    assert [record.id for record in records] == ["x", "7", "2", "last"]
    first = records[0]
    assert first.media[0].source == folder / "a.jpg" and first.media[0].kind == "image"
    assert [(t.question, t.answer) for t in first.turns] == [("what?", "a cat"), ("why?", "no idea")]
    assert records[1].media[0].kind == "video" and records[1].turns[0].question == "what happens?"
    assert records[2].media == () and len(records[3].media) == 2
    assert list(bad) == [3, 4, 5, 6, 7, 8, 9, 10]
    wanted = ["no such file: gone.jpg", "every question needs", "markers", "markers", "answer 0 is empty"]
    wanted += ["out of turn", "no list of messages", "not an object"]
    assert all(part in reason for part, reason in zip(wanted, bad.values())), bad


def test_coco_captions(folder):
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "gone.jpg"}, {"id": 3}],
        "annotations": [
            {"id": 10, "image_id": 1, "caption": " A cat. "},
            {"id": 11, "image_id": 1, "caption": "One more."},
            {"id": 12, "image_id": 2, "caption": "x"},
            {"id": 13, "image_id": 9, "caption": "x"},
            {"id": 14, "image_id": 1, "caption": ""},
            {"id": 15, "image_id": 1},
            {"id": 16, "image_id": 3, "caption": "x"},
        ],
    }
    records, bad = read(write(folder / "captions.json", document))
    assert [(record.id, record.caption) for record in records] == [("10", "A cat."), ("11", "One more.")]
    assert bad[2] == "no such file: gone.jpg" and "9 is not among" in bad[3] and bad[4] == "caption is empty"
    assert bad[5] == "caption is missing" and "3 is not among" in bad[6]


@pytest.mark.parametrize("named", [False, True])
def test_vqa_v2(folder, named):
    Image.fromarray(PICTURE).save(folder / "COCO_val2014_000000000042.jpg")
    questions = [{"question_id": n, "image_id": 42, "question": "what?"} for n in (1, 2, 3)]
    questions += [{"question_id": 4, "image_id": 43, "question": "what?"}]
    answers = [{"answer": "dog"}] * 3 + [{"answer": "cat"}] * 7
    annotations = [
        {"question_id": 1, "multiple_choice_answer": "dog", "answers": answers},
        {"question_id": 2, "answers": answers},
        {"question_id": 4, "multiple_choice_answer": "x"},
    ]
    name = "any.json" if named else "v2_mscoco_val2014_annotations.json"
    second = write(folder / name, {"annotations": annotations})
    path = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    write(path, {"data_subtype": "val2014", "questions": questions})
    records, bad = read(path, **({"annotations": second} if named else {}))
    assert [record.turns[0].answer for record in records] == ["dog", "cat"]
    assert records[0].turns[0].answers.count("cat") == 7 and records[0].id == "1"
    assert "3 has no annotation" in bad[2] and "no such file: COCO_val2014_000000000043.jpg" in bad[3]
    second.unlink()
    if not named:
        with pytest.raises(ValueError, match="there is no v2_OpenEnded_mscoco_val2014_annotations"):
            read_records(path)


def test_jsonl_of_every_shape(folder):
    rows = [
        {"image": "a.jpg", "caption": "one"},
        {"media": "c.mp4", "question": "what?", "answer": "two", "id": "second"},
        {"video": "c.mp4", "turns": [["q", "a"], {"question": "r", "answer": "b"}]},
        {"image": "a.jpg", "messages": [{"role": "system", "content": "be kind"}, *said("q", "a")]},
        {"image": "a.jpg", "question": "q", "answers": ["yes", "no"]},
    ]
    broken = ['{"image": "a.jpg", "capt', "[1, 2]", '{"caption": "no picture"}', '{"media": "a.txt", "caption": "x"}']
    broken += ['{"image": 3, "caption": "x"}', '{"image": "a.jpg", "turns": [["q"]]}', '{"image": "a.jpg"}']
    lines = [json.dumps(row) for row in rows]
    path = folder / "rows.jsonl"
    path.write_bytes("\n".join([*lines, "", *broken]).encode() + b"\n\xff\xfe\n")
    records, bad = read(path)
    assert [record.id for record in records] == ["1", "second", "3", "4", "5"]
    assert records[0].caption == "one" and records[1].caption is None and len(records[2].turns) == 2
    assert records[3].system == "be kind" and records[4].turns[0].answers == ("yes", "no")
    assert list(bad) == [7, 8, 9, 10, 11, 12, 13, 14]
    wanted = ["no JSON", "not an object", "no media", "unknown kind", "not the name", "a turn is", "caption is missing"]
    assert all(part in reason for part, reason in zip([*wanted, "no JSON"], bad.values())), bad


def make_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_tars_are_read_when_needed(tmp_path):
    chat = json.dumps({"id": "talk", "conversations": said("<image>\nq", "a")}).encode()
    files = {
        "one.png": png(),
        "one.txt": b" a white wall ",
        "part.a/two.png": png(PICTURE // 2),
        "part.a/two.json": b'{"caption": "a grey wall", "width": 10}',
        "three.png": png(),
        "three.json": chat,
        "four.txt": b"no picture",
        "five.png": png(),
        "six.png": png(),
        "six.json": b"{broken",
        "seven.seg.png": png(),
        "seven.txt": b"\xff\xfe",
    }
    path = make_tar(tmp_path / "shard-000.tar", files)
    records, bad = read(path)
    assert [record.id for record in records] == ["one", "part.a/two", "talk"]
    assert records[0].caption == "a white wall" and records[1].caption == "a grey wall"
    assert (load_record(records[1]).media[0].source == PICTURE // 2).all()
    assert list(bad) == ["four", "five", "six", "seven"]
    assert bad["four"] == "no picture or video" and bad["five"] == "no text" and "cannot be read" in bad["six"]
    make_tar(tmp_path / "shard-001.tar", {"eight.png": png(), "eight.txt": b"more"})
    assert [record.id for record in read(tmp_path)[0]][-1] == "eight"


def test_a_tar_that_was_cut_short_gives_what_is_there(tmp_path):
    path = make_tar(tmp_path / "x.tar", {"a.png": png(), "a.txt": b"one", "b.png": png(), "b.txt": b"two" * 2000})
    path.write_bytes(path.read_bytes()[: 512 * 2 + len(png()) + 4000])
    records, bad = read(path)
    assert [record.id for record in records] == ["a"]
    assert any("cut short" in reason for reason in bad.values())


def test_a_folder_with_sidecars(folder):
    (folder / "a.txt").write_text("a wall\n")
    (folder / "sub").mkdir()
    Image.fromarray(PICTURE).save(folder / "sub" / "d.png")
    (folder / "sub" / "d.txt").write_text("deep")
    (folder / "c.txt").write_text("")
    (folder / "lonely.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "notes.md").write_text("x")
    records, bad = read(folder)
    assert [(record.id, record.caption) for record in records] == [("a.jpg", "a wall"), ("sub/d.png", "deep")]
    assert bad == {
        "b.jpg": "no b.txt beside it",
        "c.mp4": "c.txt is empty",
        "lonely.txt": "no picture or video beside it",
    }


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_records(tmp_path / "gone.json")
    with pytest.raises(ValueError, match=r"name it \.jsonl"):
        read_records(write(tmp_path / "lines.json", '{"a": 1}\n{"a": 2}\n'))
    with pytest.raises(ValueError, match="neither a list of conversations"):
        read_records(write(tmp_path / "other.json", {"hello": []}))
    with pytest.raises(ValueError, match="name the format"):
        read_records(write(tmp_path / "x.csv", "a,b"))
    with pytest.raises(ValueError, match="format 'parquet' is unknown"):
        read_records(tmp_path / "x.csv", format="parquet")
    with pytest.raises(ValueError, match="belongs to the format vqa"):
        read_records(write(tmp_path / "x.jsonl", ""), annotations="y")
    with pytest.raises(ValueError, match="no list 'images'"):
        read_records(tmp_path / "other.json", format="coco")


def test_a_caller_can_take_the_report(folder):
    path = write(folder / "x.jsonl", '{"image": "a.jpg", "caption": "x"}\n{broken\n')
    taken = []
    records = read_records(path, on_bad=taken.append)
    assert taken == [records] and len(records.bad) == 1
    many = write(folder / "y.jsonl", "{broken\n" * 9)
    text = read_records(many, on_bad=taken.append).report(shown=2)
    assert "9 of 9 rows skipped" in text and "7 x no JSON" in text


def test_damaged_media_are_reported_and_another_row_stands_in(folder):
    rows = [
        {"image": "a.jpg", "caption": "one"},
        {"video": "c.mp4", "caption": "two"},
        {"image": "b.jpg", "caption": "x"},
    ]
    records = read_records(write(folder / "x.jsonl", "\n".join(map(json.dumps, rows))))
    loaded = LoadedRecords(records)
    assert loaded[0].media[0].source.shape == (8, 10, 3)
    with pytest.warns(UserWarning, match=r"skipped x\.jsonl .*c\.mp4\), row 2: "):
        assert loaded[1].caption == "x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert loaded[1].caption == "x"
    assert list(loaded.bad) == [1]
    with pytest.raises(IndexError):
        loaded[3]


def test_a_mixture_is_drawn_by_the_roots_of_its_sizes():
    parts = [[f"{name}{n}" for n in range(size)] for name, size in (("a", 1600), ("b", 400), ("c", 100))]
    mixture = Mixture(parts)
    assert len(mixture) == 2100 and mixture[0] == "a0" and mixture[1600] == "b0" and mixture[-1] == "c99"
    np.testing.assert_allclose(mixture.probabilities, np.array([40, 20, 10]) / 70)
    order = [mixture[index] for epoch in range(4) for index in mixture.order(epoch, seed=3)]
    shares = [sum(row[0] == name for row in order) / len(order) for name in "abc"]
    np.testing.assert_allclose(shares, mixture.probabilities, atol=0.02)
    one = mixture.order(0, seed=3)
    assert one == mixture.order(0, seed=3) != mixture.order(1, seed=3) and len(one) == 2100
    drawn = [index for index in one if index >= 2000]  # the small set comes round several times, evenly
    counts = np.bincount(np.array(drawn) - 2000, minlength=100)
    assert counts.max() - counts.min() <= 1 and counts.min() >= 2
    assert Mixture(parts, weights=[0, 0, 1]).order(0, 0)[0] >= 2000
    np.testing.assert_allclose(Mixture(parts, power=1).probabilities, np.array([16, 4, 1]) / 21)
    for broken in ([], [[], [1]]):
        with pytest.raises(ValueError, match="rows"):
            Mixture(broken)
    with pytest.raises(ValueError, match="weights"):
        Mixture(parts, weights=[1.0])
    with pytest.raises(IndexError):
        mixture[2100]
