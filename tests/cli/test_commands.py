"""The command line: results on stdout, everything else on stderr, one line for an error, and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest
from PIL import Image

import onlooker
from onlooker.cli import main
from onlooker.cli import options as cli_options
from onlooker.cli.inputs import expand
from onlooker.pipeline import asking
from tests.pipeline.conftest import picture

QUESTION = "What is in the picture?"
SHORT = ["--max-new-tokens", "4", "--dtype", "fp32", "--device", "cpu"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three images and a text in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.png", 1), ("b.png", 2), ("c 1.jpg", 3)):
        Image.fromarray(picture(seed)).save(name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def run(capsys):
    def give(*arguments):
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return give


def expected(load, name, question=QUESTION, **options):
    return load("opt").ask(name, question, max_new_tokens=4, **options).text


def test_ask_prints_the_new_text_and_nothing_else(run, photos, folders, load):
    code, out, err = run("ask", "a.png", QUESTION, "--model", folders["opt"], *SHORT)
    assert (code, out) == (0, expected(load, "a.png") + "\n")
    assert "float32" in err and "on cpu" in err  # the choice is told
    assert "cut at 4 tokens" in err


def test_quiet_leaves_stderr_empty(run, photos, folders):
    assert run("caption", "a.png", "--model", folders["opt"], "--quiet", *SHORT)[2] == ""


def test_several_files_and_globs_come_in_order_with_their_names(run, photos, folders, load):
    code, out, _ = run("ask", "c 1.jpg", "*.png", QUESTION, "--model", folders["opt"], "--batch-size", 2, *SHORT)
    assert code == 0
    assert out == "".join(f"{name}: {expected(load, name)}\n" for name in ("c 1.jpg", "a.png", "b.png"))


def test_json_gives_an_object_for_each_file_also_for_failures(run, photos, folders):
    code, out, err = run("caption", "a.png", "notes.txt", "gone.png", "b.png", "--json", "-m", folders["opt"], *SHORT)
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [record["file"] for record in records] == ["a.png", "notes.txt", "gone.png", "b.png"]
    assert set(records[0]) == {"file", "text", "finish_reason", "num_tokens", "logprob", "frames"}
    assert "no such file" in records[2]["error"] and "cannot identify" in records[1]["error"]
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        "error: cannot identify image file notes.txt: damaged, or not an image "
        "(frames of a video come from load_video)",
        "error: no such file: gone.png",
    ]


def test_one_bad_file_fails_but_the_others_are_answered(run, photos, folders, load):
    code, out, _ = run("ask", "gone.png", "a.png", QUESTION, "--model", folders["opt"], *SHORT)
    assert (code, out) == (1, f"a.png: {expected(load, 'a.png')}\n")


def test_a_glob_comes_sorted_and_a_file_of_that_very_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("d.png", "b.png", "[x].png", "a.png", "c.png", "x.png"):
        (tmp_path / name).touch()
    assert [each.name for each in expand(["[a-d].png"])] == ["a.png", "b.png", "c.png", "d.png"]
    assert [each.name for each in expand(["[x].png"])] == ["[x].png"]


def test_a_glob_without_a_match_is_an_error_that_names_it(run, photos, folders):
    code, out, err = run("caption", "*.tiff", "--model", folders["opt"], *SHORT)
    assert (code, out) == (1, "") and "no such file: *.tiff" in err


def test_a_stream_prints_what_the_answer_is(run, photos, folders, load):
    code, out, _ = run("ask", "a.png", "b.png", QUESTION, "--stream", "--model", folders["opt"], *SHORT)
    assert (code, out) == (0, "".join(f"{name}: {expected(load, name)}\n" for name in ("a.png", "b.png")))


def test_options_of_generation_reach_the_model(run, photos, folders, load):
    base = ("caption", "a.png", "--model", folders["opt"], "--quiet", *SHORT)
    eyes = load("opt")
    sampled = eyes.caption("a.png", max_new_tokens=4, do_sample=True, temperature=1.4, seed=3)
    assert run(*base, "--temperature", 1.4, "--seed", 3)[1] == f"{sampled}\n"
    beams = eyes.caption("a.png", prompt="a photo", max_new_tokens=4, num_beams=3, repetition_penalty=1.5)
    assert run(*base, "--prompt", "a photo", "--num-beams", 3, "--repetition-penalty", 1.5)[1] == f"{beams}\n"


def test_show_prompt_prints_tokens_and_shapes_without_reading_weights(run, photos, folders, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in folders["opt"].glob("*.json"):
        (bare / file.name).write_bytes(file.read_bytes())
    code, out, err = run("ask", "a.png", QUESTION, "--show-prompt", "--model", bare)
    assert (code, err) == (0, "")
    assert f"<image> x 4 </s>Question: {QUESTION} Answer:" in out
    assert "4 placeholders for the image" in out and "[1, 3, 28, 28]" in out
    code, out, _ = run("caption", "a.png", "b.png", "--show-prompt", "--json", "--model", bare)
    assert code == 0 and [json.loads(line)["num_placeholders"] for line in out.splitlines()] == [4, 4]


def test_texts_follow_the_images_and_a_mistyped_name_is_no_text(run, photos, folders):
    code, out, _ = run("match", "a.png", "a cup", "two", "--model", folders["matching"], *SHORT[2:])
    assert code == 0
    assert [line.split("  ")[-1] for line in out.splitlines()] == ["a cup", "two"]
    code, out, err = run("match", "a.png", "bb.png", "a cup", "--model", folders["matching"], *SHORT[2:])
    assert code == 1 and "no such file: bb.png" in err and "a cup" in out
    code, _, err = run("match", "a.png", "a cup", "b.png", "--model", folders["matching"])
    assert code == 2 and "'b.png' is a file behind a text" in err
    code, _, err = run("match", "a.png", "--model", folders["matching"])
    assert code == 2 and "give a text after the images" in err


def test_a_model_is_not_loaded_for_files_that_are_not_there(run, photos, folders):
    code, out, err = run("ask", "gone.png", "also.jpg", "What?", "--model", folders["opt"])
    assert (code, out) == (1, "") and err.splitlines()[-1] == "error: no such file: gone.png, also.jpg"
    assert "loading" not in err


def test_match_gives_probability_and_similarity(run, photos, folders):
    code, out, _ = run("match", "a.png", "-t", "a cup", "-t", "two", "--model", folders["matching"], *SHORT[2:])
    assert code == 0
    assert re.fullmatch(r"ITM +[\d.]+%  ITC [+-][\d.]+  a cup\nITM +[\d.]+%  ITC [+-][\d.]+  two\n", out)
    code, out, _ = run("match", "a.png", "b.png", "a cup", "--json", "--model", folders["matching"], *SHORT[2:])
    assert [len(json.loads(line)["matches"]) for line in out.splitlines()] == [1, 1]


def test_rank_orders_the_candidates(run, photos, folders, load):
    choices = ("-c", "a cup", "-c", "two")
    code, out, _ = run("rank", "a.png", QUESTION, *choices, "--json", "--model", folders["opt"], *SHORT[2:])
    wanted = load("opt").rank("a.png", QUESTION, ["a cup", "two"])
    assert code == 0
    assert [each["text"] for each in json.loads(out)["candidates"]] == [each.text for each in wanted]
    assert run("rank", "a.png", QUESTION, *choices, "--model", folders["opt"], *SHORT[2:])[1].count("log p") == 2


def test_the_wrong_kind_of_checkpoint_is_refused_before_its_weights_are_read(run, photos, folders):
    code, _, err = run("match", "a.png", "a cup", "--model", folders["opt"])
    assert code == 1 and "Salesforce/blip2-itm-vit-g" in err and "parameters" not in err
    code, _, err = run("caption", "a.png", "--model", folders["matching"])
    assert code == 1 and "Salesforce/blip2-opt-2.7b" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["caption"], "Missing argument"),
        (["caption", "a.png", "--revision", "v2"], "--revision is of a hub name"),
        (["ask", "a.png", "--model", "x"], "give an image and a question"),
        (["ask", "a.png", "b.png", "--model", "x"], "'b.png' is a file"),
        (["ask", "a.png", "Why?", "--model", "x", "--template", "Q:"], "has no {}"),
        (["rank", "a.png", "Why?", "--model", "x"], "--candidate"),
        (["caption", "a.png", "--model", "x", "--stream", "--json"], "--stream"),
        (["caption", "a.png", "--model", "x", "--top-p", "0.5"], "--temperature"),
        (["caption", "a.png", "--model", "x", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["caption", "a.png", "--model", "x", "--wrong"], "--wrong"),
        (["capton", "a.png"], "capton"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, photos, monkeypatch, arguments, message):
    monkeypatch.delenv("ONLOOKER_MODEL", raising=False)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err


def test_a_missing_model_is_one_line_and_debug_shows_the_traceback(run, photos):
    code, out, err = run("caption", "a.png", "--model", "no/such/folder", "--quiet")
    assert (code, out, err.count("\n")) == (1, "", 1) and "no/such/folder" in err
    _, _, err = run("caption", "a.png", "--model", "no/such/folder", "--debug")
    assert "Traceback" in err and err.splitlines()[-1].startswith("error: ")


def test_fetch_of_a_folder_is_wrong_usage(run, folders):
    code, _, err = run("fetch", folders["opt"])
    assert code == 2 and "is a folder" in err


def test_fetch_without_a_network_is_one_line():
    # A port that nothing listens on stands for the hub that cannot be reached.
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "onlooker", "fetch", "owner/name"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_version_and_help(run):
    assert run("--version") == (0, f"onlooker {onlooker.__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0 and all(name in out for name in ("caption", "ask", "match", "rank", "fetch"))


def test_the_commands_defaults_are_those_of_the_pipeline():
    assert cli_options.MAX_NEW_TOKENS == asking.MAX_NEW_TOKENS


def test_progress_is_drawn_on_a_terminal_and_stdout_stays_clean(photos, folders):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "onlooker", "caption", "a.png", "b.png", "-m", str(folders["opt"]), *SHORT]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the other end was closed
                break
            if not piece:
                break
            shown += piece
        out = process.stdout.read()
    os.close(leader)
    assert process.returncode == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["a.png", "b.png"]
    assert b"loading" in shown and b"files" in shown and "2/2" in shown.decode()


def test_an_image_may_come_from_stdin(photos, folders, load):
    command = [sys.executable, "-m", "onlooker", "ask", "-", QUESTION, "-m", str(folders["opt"]), "--quiet", *SHORT]
    done = subprocess.run(command, input=(photos / "a.png").read_bytes(), capture_output=True, timeout=120)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected(load, "a.png") + "\n", b"")
