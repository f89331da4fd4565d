"""The README does what it says: its prompt is printed as written, its Python runs, its commands and files exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from examples.demo import demo
from examples.random_checkpoint import write_checkpoint
from onlooker.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_prompt_in_the_readme_is_what_the_demo_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert demo() == 0
    printed = capsys.readouterr().out
    photo, clip = blocks("console")[:2]
    assert printed.startswith(photo) and f"\n{clip}" in printed
    assert "No answers are shown" in printed
    photo_shapes = ("[1, 257, 1408]", "[1, 32, 2560]", "[1, 43, 50304]")
    for shape in (*photo_shapes, "[8, 257, 1024]", "[1, 2056, 4096]", "[1, 2082, 32064]"):
        assert shape in printed and shape in README


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "coffee.png", "photo.jpg")  # read by its content, not by its name
    shutil.copy(ROOT / "examples" / "flower.mp4", "clip.mp4")
    write_checkpoint("LanguageBind/Video-LLaVA-7B-hf", "video-llava", image_size=28)
    (code,) = blocks("python")
    with pytest.warns(UserWarning, match="several pictures or clips"):
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") >= 6


@pytest.mark.parametrize("line", re.findall(r"^\| `onlooker ([^`]*)`", README, re.MULTILINE))
def test_the_commands_of_the_readme_are_understood(line, tmp_path, monkeypatch, capsys):
    import shlex

    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "coffee.png", "photo.jpg")
    for name in ("clip.mp4", "long.mp4"):
        shutil.copy(ROOT / "examples" / "flower.mp4", name)
    words = shlex.split(line)
    assert words[0] in COMMANDS
    if words[0] not in ("fetch", "convert", "world", "train"):
        # Understood: it gets as far as looking for the model.
        assert main([*words, "--model", "no/such/folder"]) == 1
        assert "no/such/folder" in capsys.readouterr().err


def test_the_files_that_the_readme_names_are_there():
    for name in re.findall(r"`((?:docs|examples)/[^`]*)`|\((examples/[^)]*)\)", README):
        assert (ROOT / (name[0] or name[1])).is_file(), name
