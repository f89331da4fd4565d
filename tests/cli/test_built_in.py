"""Without --model: the checkpoint that comes along and can do it answers, offline, and one line says what it knows."""

from __future__ import annotations

import io
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import onlooker
from onlooker import Onlooker, checkpoints, load_video
from onlooker.cli import main
from onlooker.cli.inputs import Input
from onlooker.train.lora import add_lora
from tests.pipeline.conftest import CLIP, picture

QUESTION = "What is in the picture?"
PLAIN = ["--dtype", "fp32", "--device", "cpu"]
SHORT = ["--max-new-tokens", "4", *PLAIN]

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, embedded):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONLOOKER_MODEL", raising=False)
    shutil.copy(CLIP, "clip.mp4")
    Image.fromarray(picture(1)).save("a.png")

    def give(*arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return give


@pytest.mark.parametrize(
    ("name", "kind", "words", "expected"),
    [
        ("blip2-tiny", "t5", ["caption", "a.png"], lambda eyes: f"{eyes.caption('a.png', max_new_tokens=4)}\n"),
        ("video-llava-tiny", "video-llava", ["caption", "clip.mp4"], lambda eyes: None),
        ("video-llava-tiny", "video-llava", ["caption", "a.png", "clip.mp4"], lambda eyes: None),
        (
            "video-llava-tiny",
            "video-llava",
            ["ask", "clip.mp4", QUESTION],
            lambda eyes: f"{eyes.ask('clip.mp4', QUESTION, max_new_tokens=4)}\n",
        ),
        (
            "video-llava-tiny",
            "video-llava",
            ["ask", "a.png", QUESTION],
            lambda eyes: f"{eyes.ask('a.png', QUESTION, max_new_tokens=4)}\n",
        ),
        (
            "video-llava-tiny",
            "video-llava",
            ["chat", "clip.mp4"],
            lambda eyes: f"{eyes.chat('clip.mp4').ask(QUESTION, max_new_tokens=4)}\n",
        ),
        (
            "video-llava-tiny",
            "video-llava",
            ["rank", "clip.mp4", QUESTION, "-c", "a cup", "-c", "two"],
            lambda eyes: None,
        ),
        ("blip2-itm-tiny", "matching", ["match", "a.png", "a cup"], lambda eyes: None),
    ],
)
def test_each_command_takes_the_one_that_can_do_it_and_says_so(run, load, name, kind, words, expected):
    options = PLAIN if words[0] in ("rank", "match") else SHORT
    code, out, err = run(*words, *options, typed=f"{QUESTION}\n")
    assert code == 0, err
    (said,) = [line for line in err.splitlines() if "onlooker/" in line]
    assert f"built-in onlooker/{name} knows only coloured shapes that move" in said and "--model" in said
    assert "loading" not in err and "parameters" not in err
    named = run(*words, "--model", f"onlooker/{name}", *options, typed=f"{QUESTION}\n")
    assert named[:2] == (0, out) and "built-in" not in named[2] and f"loading onlooker/{name}" in named[2]
    assert expected(load(kind)) in (None, out)
    assert run(*words, *options, "--quiet", typed=f"{QUESTION}\n") == (0, out, "")


def test_a_model_in_the_environment_is_named_as_well(run, folders, monkeypatch):
    monkeypatch.setenv("ONLOOKER_MODEL", str(folders["opt"]))
    code, _, err = run("caption", "a.png", *SHORT)
    assert code == 0 and "built-in" not in err and f"loading {folders['opt']}" in err


def test_a_picture_is_known_by_its_content(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "picture.mp4", format="PNG")
    shutil.copy(CLIP, tmp_path / "clip.png")
    assert (
        Input("", str(tmp_path / "picture.mp4")).is_picture() and not Input("", str(tmp_path / "clip.png")).is_picture()
    )
    assert Input("", (tmp_path / "picture.mp4").read_bytes()).is_picture()
    assert (
        Input("", "https://example.com/a.JPG").is_picture() and not Input("", "https://example.com/a.mp4").is_picture()
    )
    assert not Input("", str(tmp_path)).is_picture()  # a folder of frames is a clip


def test_an_installation_without_them_says_so_in_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    code, out, err = run("ask", "clip.mp4", QUESTION, "--quiet")
    assert (code, out, err.count("\n")) == (1, "", 1) and "this installation is not complete" in err
    code, out, err = run("caption", "a.png", "-m", "onlooker/blip3", "--quiet")
    assert (code, out, err.count("\n")) == (1, "", 1) and "There is no onlooker/blip3" in err


def test_fetch_and_convert_know_their_names(run, embedded):
    code, out, err = run("fetch", "onlooker/blip2-tiny")
    assert (code, out) == (0, f"{embedded / 'blip2-tiny'}\n") and "there is nothing to download" in err
    code, out, _ = run("fetch", "onlooker/blip2-tiny", "--json")
    assert json.loads(out) == {
        "model": "onlooker/blip2-tiny",
        "download_bytes": 0,
        "folder": str(embedded / "blip2-tiny"),
    }
    code, out, err = run("fetch", "onlooker/blip3")
    assert (code, out) == (1, "") and "onlooker/video-llava-tiny (answers" in err
    code, out, _ = run("convert", "onlooker/video-llava-tiny", "copy", "--quiet")
    assert (code, out) == (0, "copy\n")
    assert run("ask", "clip.mp4", QUESTION, "-m", "copy", *SHORT)[1] == run("ask", "clip.mp4", QUESTION, *SHORT)[1]


def test_frames_are_sought_by_the_matching_one(run, load):
    score = load("matching").scorer(QUESTION)
    wanted = load_video(CLIP, num_frames=8, sampling="query", score=score)
    code, out, err = run("ask", "clip.mp4", QUESTION, "--sampling", "query", "--json", *SHORT)
    assert code == 0 and json.loads(out)["frames"]["indices"] == list(wanted.indices)
    assert "built-in onlooker/blip2-itm-tiny knows only" in err and "--query-model Salesforce" in err
    assert wanted.indices != load_video(CLIP, num_frames=8).indices


def test_frames_are_sought_by_a_text_and_a_checkpoint_of_ones_own(run, folders, load):
    wanted = load_video(CLIP, num_frames=8, sampling="query", score=load("matching").scorer("a cat"))
    sought = ("--query", "a cat", "--query-model", folders["matching"])
    for words in (["ask", "clip.mp4", QUESTION], ["caption", "clip.mp4"]):
        code, out, err = run(*words, *sought, "--json", "-m", folders["video-llava"], *SHORT)
        assert code == 0 and json.loads(out)["frames"]["indices"] == list(wanted.indices)
        assert "built-in" not in err
    code, out, _ = run("ask", "clip.mp4", QUESTION, *sought, "--windows", "1.5", "--json", *SHORT)
    assert code == 0 and len(json.loads(out)["windows"]) == 2
    ranked = load("video-llava").rank("clip.mp4", QUESTION, ["a cup", "two"], score=load("matching").scorer("a cat"))
    code, out, _ = run("rank", "clip.mp4", QUESTION, "-c", "a cup", "-c", "two", *sought, "--json", *PLAIN)
    assert [each["logprob"] for each in json.loads(out)["candidates"]] == pytest.approx([r.logprob for r in ranked])
    code, _, err = run("ask", "clip.mp4", QUESTION, "--query-model", folders["opt"], *SHORT)
    assert code == 1 and "match needs the image-text-matching heads" in err


def test_an_adapter_is_put_on_the_model(run, folders):
    model = onlooker.VideoLlavaForConditionalGeneration.from_pretrained(folders["video-llava"])
    add_lora(model, "language", rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.5)
    model.__dict__["_peft"].save_pretrained("adapter")
    eyes = Onlooker.from_pretrained(folders["video-llava"], adapter="adapter", dtype="fp32", device="cpu")
    expected = eyes.ask("clip.mp4", QUESTION, max_new_tokens=4).text
    assert run("ask", "clip.mp4", QUESTION, "--adapter", "adapter", *SHORT)[1] == f"{expected}\n"
    assert run("ask", "clip.mp4", QUESTION, *SHORT)[1] != f"{expected}\n"
    assert run("caption", "clip.mp4", "--adapter", "adapter", *SHORT)[0] == 0


def test_a_missing_adapter_is_told_before_weights_are_read(run, folders):
    shutil.copytree(folders["video-llava"], "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    code, _, err = run("ask", "clip.mp4", QUESTION, "-m", "bare", "--adapter", "bare", *SHORT)
    assert code == 1 and err.splitlines()[-1] == "error: bare holds no adapter: it has no adapter_config.json"


def test_the_prompt_of_the_built_in_one_is_shown_without_weights(run, embedded, folders):
    (embedded / "video-llava-tiny").unlink()
    shutil.copytree(
        folders["video-llava"], embedded / "video-llava-tiny", ignore=shutil.ignore_patterns("*.safetensors")
    )
    code, out, err = run("ask", "clip.mp4", QUESTION, "--show-prompt")
    assert code == 0 and "placeholders for the video" in out and err.count("\n") == 1 and "built-in" in err
    assert np.char.count(err, "onlooker/video-llava-tiny") == 1
