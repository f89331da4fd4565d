"""Videos on the command line: answers, windows, contact sheets, conversations, and errors of one line."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from onlooker import load_video
from onlooker.cli import main
from onlooker.pipeline.sheet import ContactSheet
from tests.pipeline.conftest import CLIP, VIDEOS, picture

QUESTION = "What is in the picture?"
SHORT = ["--max-new-tokens", "4", "--dtype", "fp32", "--device", "cpu"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CLIP, "clip.mp4")
    Image.fromarray(picture(1)).save("a.png")

    def give(*arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return give


@pytest.mark.parametrize("kind", ["video-llava", "instructblip-t5"])
def test_ask_and_caption_take_videos_and_pictures(run, folders, load, kind):
    eyes = load(kind)
    model = ("--model", folders[kind], *SHORT)
    code, out, _ = run("ask", "clip.mp4", "a.png", QUESTION, *model)
    expected = [eyes.ask(name, QUESTION, max_new_tokens=4) for name in ("clip.mp4", "a.png")]
    assert (code, out) == (0, f"clip.mp4: {expected[0]}\na.png: {expected[1]}\n")
    assert run("caption", "clip.mp4", *model)[1] == f"{eyes.caption('clip.mp4', max_new_tokens=4)}\n"
    assert run("ask", "clip.mp4", QUESTION, "--stream", *model)[1] == f"{expected[0]}\n"


def test_json_names_the_frames_and_options_choose_them(run, folders):
    chosen = ("--frames", 3, "--sampling", "linspace", "--start", "0:01", "--end", "0:02")
    code, out, err = run("ask", "clip.mp4", QUESTION, *chosen, "--json", "-m", folders["video-llava"], *SHORT)
    frames = json.loads(out)["frames"]
    wanted = load_video("clip.mp4", num_frames=3, sampling="linspace", start=1.0, end=2.0)
    assert code == 0 and frames["indices"] == wanted.indices
    assert frames["seconds"] == pytest.approx(wanted.seconds, abs=1e-5)
    assert "warning: 3 frames of a clip; Video-LLaVA was trained with 8" in err and "Traceback" not in err


def test_bad_files_are_one_line_each_and_the_others_are_answered(run, folders):
    names = [VIDEOS / name for name in ("audio_only_bear.ogg", "text.mp4", "cover_art.mp3")]
    code, out, err = run("ask", "clip.mp4", *names, "gone.mp4", QUESTION, "-m", folders["video-llava"], *SHORT)
    assert code == 1 and out.startswith("clip.mp4: ") and out.count("\n") == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4 and "no video stream" in errors[0] and "damaged or not a video" in errors[1]


def test_a_damaged_clip_is_answered_with_a_warning_of_one_line(run, folders):
    code, _, err = run("ask", VIDEOS / "corrupted_mid.mp4", QUESTION, "-m", folders["video-llava"], *SHORT)
    assert code == 0 and len([line for line in err.splitlines() if line.startswith("warning: ")]) == 1
    assert "28 of 50" in err
    assert run("ask", VIDEOS / "corrupted_mid.mp4", QUESTION, "-m", folders["video-llava"], "--quiet", *SHORT)[2] == ""


def test_a_family_for_pictures_refuses_a_video_in_one_line(run, folders):
    code, out, err = run("ask", "clip.mp4", QUESTION, "-m", folders["opt"], "--quiet", *SHORT)
    assert (code, out, err.count("\n")) == (1, "", 1) and "clip.mp4 is a video, and BLIP-2 takes images" in err


def test_files_that_cannot_be_answered_about_are_told_without_reading_weights(run, folders, tmp_path):
    for kind in ("opt", "matching", "video-llava"):
        shutil.copytree(folders[kind], kind, ignore=shutil.ignore_patterns("*.safetensors"))
    code, out, err = run("ask", "clip.mp4", "gone.mp4", QUESTION, "-m", "opt", "--json", "--batch-size", "1", *SHORT)
    assert code == 1 and [json.loads(line)["file"] for line in out.splitlines()] == ["clip.mp4", "gone.mp4"]
    assert "BLIP-2 takes images" in err and "no weights" not in err
    assert "BLIP-2 takes images" in run("match", "clip.mp4", "a cup", "-m", "matching")[2]
    assert "BLIP-2 takes images" in run("rank", "clip.mp4", "Why?", "-c", "a", "-m", "opt")[2]
    assert "windows are of videos" in run("ask", "clip.mp4", "Why?", "--windows", "1", "-m", "opt")[2]
    audio = str(VIDEOS / "audio_only_bear.ogg")
    assert "no video stream" in run("ask", audio, QUESTION, "-m", "video-llava")[2].splitlines()[-1]
    code, _, err = run("ask", audio, "a.png", QUESTION, "-m", "video-llava")
    assert code == 1 and "has no weights" in err.splitlines()[-1]


def test_a_time_that_the_clip_does_not_have_is_one_line(run, folders):
    code, out, err = run(
        "ask", "clip.mp4", QUESTION, "--start", "1:00:00", "-m", folders["video-llava"], "--quiet", *SHORT
    )
    assert (code, out, err.count("\n")) == (1, "", 1) and "not inside" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "clip.mp4", "Why?", "--contact-sheet", "sheet.txt"), "should end in"),
        (("ask", "clip.mp4", "Why?", "--contact-sheet", "no/such/sheet.png"), "there is no folder"),
        (("ask", "clip.mp4", "Why?", "--windows", "5", "--stream"), "leave out --windows"),
        (("chat", "-"), "stdin"),
        (("chat", "clip.mp4", "--sampling", "query"), "'query' is unknown; there are uniform, linspace"),
        (("caption", "clip.mp4", "--sampling", "query"), "give --query TEXT"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_loaded(run, arguments, message):
    code, out, err = run(*arguments, "-m", "no/such/folder")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err


@pytest.mark.parametrize("kind", ["video-llava", "instructblip-llama"])
def test_show_prompt_shows_frames_and_times_without_weights(run, folders, tmp_path, kind):
    bare = tmp_path / "bare"
    shutil.copytree(folders[kind], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    code, out, err = run("ask", "clip.mp4", QUESTION, "--show-prompt", "-m", bare, "--contact-sheet", "sheet.png")
    assert code == 0 and err == "frames drawn in sheet.png\n"
    assert "<video> x 40 " in out or "<video> x 16 " in out
    assert "times      0:00.00, 0:00." in out and "placeholders for the video" in out
    assert ("q-former   What is" in out) == (kind != "video-llava")
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 600
    code, out, _ = run("caption", "clip.mp4", "--show-prompt", "--json", "-m", bare)
    assert json.loads(out)["kind"] == "video" and "ideo" in json.loads(out)["prompt"]


def test_windows_are_told_one_by_one_and_then_their_answer(run, folders, load):
    model = ("-m", folders["video-llava"], "--quiet", *SHORT)
    code, out, _ = run("ask", "clip.mp4", QUESTION, "--windows", 1, "--contact-sheet", "sheet.png", *model)
    answer = load("video-llava").ask("clip.mp4", QUESTION, windows=1, max_new_tokens=4)
    assert (code, out) == (0, "".join(f"{window}\n" for window in answer.windows) + f"{answer}\n")
    code, out, _ = run("ask", "clip.mp4", "gone.mp4", "Is it raining?", "--windows", 1, "--json", *model)
    first, second = map(json.loads, out.splitlines())
    assert code == 1 and len(first["windows"]) == 3 and "no such file" in second["error"]
    assert first["text"] == max(first["windows"], key=lambda window: window["logprob"])["text"]


def test_choices_give_one_of_them(run, folders):
    options = ("-c", "a cup", "-c", "two", "-m", folders["video-llava"], "--quiet", "--dtype", "fp32")
    assert run("ask", "clip.mp4", QUESTION, *options)[1].strip() in ("a cup", "two")
    assert run("rank", "clip.mp4", QUESTION, *options)[1].count("log p") == 2


def test_a_contact_sheet_shows_every_frame_that_was_used(run, folders):
    code, _, err = run(
        *("ask", "clip.mp4", "a.png", QUESTION, "--contact-sheet", "sheet.png", "-m", folders["video-llava"], *SHORT)
    )
    assert code == 0 and "frames drawn in sheet.png" in err
    with Image.open("sheet.png") as drawn:
        sheet = np.asarray(drawn.convert("RGB")).astype(int)
    small = [np.asarray(each.resize((300, 169))).astype(int) for each in load_video("clip.mp4", num_frames=8).to_pil()]
    places = []
    for frame in small:  # where the middle row of each frame is found again
        strip = frame[80, ::10]
        differences = [
            (np.abs(sheet[top, left : left + 300 : 10] - strip).mean(), top, left)
            for top in range(sheet.shape[0])
            for left in (28, 342, 656, 970)
        ]
        best, top, left = min(differences)
        assert best < 4
        places.append((top, left))
    assert places == sorted(places) and len({left for _, left in places}) == 4  # in reading order, four in a row


def test_contact_sheets_take_narrow_wide_and_many_frames_and_long_texts():
    sheet = ContactSheet("A long question " * 30)
    for height, width in ((640, 20), (20, 640), (90, 160)):
        sheet.add(load_video(np.zeros((9, height, width, 3), np.uint8), sampling="all"), "name " * 60, "words " * 200)
    sheet.add(picture(0), "a.png")
    drawn = sheet.draw()
    assert drawn.size[0] < 2000 and drawn.size[1] < 6000
    with pytest.raises(ValueError, match="nothing on this contact sheet"):
        ContactSheet().draw()


def test_a_sheet_without_frames_is_not_written(run, folders, tmp_path):
    (tmp_path / "bad.mp4").write_text("not a video")
    code, _, err = run("caption", "bad.mp4", "--contact-sheet", "sheet.png", "-m", folders["video-llava"], *SHORT)
    assert code == 1 and "was not written" in err and not (tmp_path / "sheet.png").exists()


def test_chat_reads_lines_and_remembers(run, folders, load):
    typed = f"{QUESTION}\nWhy?\n\n/image a.png\nAnd here?\n/reset\n/video clip.mp4\n{QUESTION}\n/quit\nnever asked\n"
    code, out, err = run("chat", "clip.mp4", "-m", folders["video-llava"], *SHORT, typed=typed)
    chat = load("video-llava").chat("clip.mp4")
    with pytest.warns(UserWarning, match="several pictures or clips"):
        load("video-llava")._writer._has_warned.discard("media")
        answers = [chat.ask(QUESTION, max_new_tokens=4), chat.ask("Why?", max_new_tokens=4)]
        answers.append(chat.ask("And here?", media="a.png", max_new_tokens=4))
    assert (code, out.split("\n")) == (0, [*map(str, answers), str(answers[0]), ""])
    assert "shown: clip.mp4 (video, 8 frames)" in err and "everything is forgotten" in err


def test_chat_goes_on_after_what_went_wrong_and_says_so_in_its_exit_code(run, folders):
    typed = "/video gone.mp4\n/what\n/image\nWhy?\n"
    code, out, err = run("chat", "-m", folders["instructblip-t5"], "--quiet", *SHORT, typed=typed)
    assert code == 1 and out.count("\n") == 1
    assert [line.split(":")[0] for line in err.splitlines()] == ["error"] * 3
    assert "there is no /what" in err and "/image needs a file" in err


def test_chat_of_one_medium_begins_anew_with_another(run, folders, load):
    typed = f"{QUESTION}\n/image a.png\n{QUESTION}\n"
    code, out, err = run("chat", "clip.mp4", "-m", folders["instructblip-t5"], "--json", *SHORT, typed=typed)
    eyes = load("instructblip-t5")
    expected = [eyes.ask(name, QUESTION, max_new_tokens=4).text for name in ("clip.mp4", "a.png")]
    assert code == 0 and [json.loads(line)["text"] for line in out.splitlines()] == expected
    assert "a new conversation: InstructBLIP talks about one picture or clip" in err


def test_chat_works_from_a_pipe(folders, load):
    command = [sys.executable, "-m", "onlooker", "chat", CLIP, "-m", str(folders["video-llava"]), "--quiet", *SHORT]
    done = subprocess.run(command, input=f"{QUESTION}\n", capture_output=True, text=True, timeout=120)
    expected = load("video-llava").ask(CLIP, QUESTION, max_new_tokens=4).text
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


def test_limits_that_errors_name_are_raised_on_the_command_line(run, folders):
    asked = ["ask", "clip.mp4", QUESTION, "-m", folders["instructblip-t5"], "--show-prompt", "--frames", "70"]
    code, _, err = run(*asked)
    assert code == 1 and "raise max_frames in limits" in err
    code, out, _ = run(*asked, "--limit", "max_frames=70", "--limit", "max_bytes=none")
    assert code == 0 and "70 frames" in out
    for wrong, message in (
        ("frames=3", "give one of max_megapixels"),
        ("max_frames=many", "'many' is not a number"),
        ("max_frames=0", "max_frames 0 is not above 0"),
    ):
        code, _, err = run(*asked, "--limit", wrong)
        assert code == 2 and message in err, wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sampling", "best"), "--sampling 'best' is unknown"),
        (("--sampling", "scene", "--query", "a cat"), "--sampling scene and --query choose frames in different ways"),
        (("--start", "abc"), "--start: 'abc' is not a time"),
        (("--end", "1:2:3:4"), "--end: '1:2:3:4' is not a time"),
        (("--windows", "0"), "0"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(run, folders, words, said):
    code, out, err = run("ask", "clip.mp4", QUESTION, *words, "-m", folders["video-llava"])
    assert (code, out) == (2, "") and said in err and "loading" not in err
