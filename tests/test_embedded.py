"""The checkpoints inside the package: there, small, whole, in half precision; with them all answers come offline."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import onlooker
from examples import demo
from onlooker import Onlooker
from onlooker.checkpoints import FOLDER, NAMES
from onlooker.train.world import stated_facts

ROOT = Path(__file__).parent.parent
MODELS = {name.removeprefix("onlooker/"): name for name in NAMES}
CLASSES = {
    "blip2-tiny": (onlooker.Blip2ForConditionalGeneration, onlooker.Blip2Processor),
    "blip2-itm-tiny": (onlooker.Blip2ForImageTextRetrieval, onlooker.Blip2Processor),
    "instructblipvideo-tiny": (
        onlooker.InstructBlipVideoForConditionalGeneration,
        onlooker.InstructBlipVideoProcessor,
    ),
    "video-llava-tiny": (onlooker.VideoLlavaForConditionalGeneration, onlooker.VideoLlavaProcessor),
}
MOST, MOST_TOGETHER = 12_000_000, 32_000_000  # bytes
FEWEST_RIGHT = 0.85  # of the 55 things that the demo asks: docs/checkpoints.md has the shares of thousands

CUT_OFF = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import huggingface_hub
huggingface_hub.hf_hub_download = huggingface_hub.HfApi = refuse
from onlooker.cli import main
sys.exit(main(sys.argv[1:]))
"""


def onlook(*words: str, typed: str = "") -> tuple[str, str]:
    """A fresh process without the network, the hub's client or a model of the user's: its stdout and stderr."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ONLOOKER_"))}
    command = [sys.executable, "-c", CUT_OFF, *words, "--device", "cpu"]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def truth(file: str) -> dict:
    rows = json.loads((ROOT / "examples" / "shapes.json").read_text(encoding="utf-8"))
    return next(row for row in rows if row["file"] == file)


def test_all_of_them_are_there_and_small():
    sizes = {folder: sum(files_of(FOLDER / folder).values()) for folder in MODELS}
    assert all(0 < size <= MOST for size in sizes.values()), sizes
    assert sum(sizes.values()) <= MOST_TOGETHER, sizes
    others = {path.name for path in FOLDER.iterdir() if path.is_dir()} - set(MODELS) - {"__pycache__"}
    assert not others, f"folders without a name: {others}"


@pytest.mark.parametrize("folder", MODELS)
def test_they_are_whole_folders_in_half_precision(folder):
    names = {path.relative_to(FOLDER / folder).as_posix() for path in files_of(FOLDER / folder)}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= names
    assert not [name for name in names if re.search(r"optimizer|checkpoint|log|time\.json|\.bin$|\.pt$", name)], names
    values = json.loads((FOLDER / folder / "config.json").read_text())
    assert values["torch_dtype"] == "float16" and values["architectures"] == [CLASSES[folder][0].__name__]
    with safe_open(FOLDER / folder / "model.safetensors", "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no dict
            tensor = tensors.get_tensor(name)
            assert torch.isfinite(tensor).all(), name
            assert tensor.dtype == torch.float16 or ".wo." in name or not tensor.is_floating_point(), name


@pytest.mark.parametrize("folder", MODELS)
def test_they_load_by_their_names_with_every_class(folder):
    model_class, processor_class = CLASSES[folder]
    model = model_class.from_pretrained(MODELS[folder], strict=True)
    assert model.dtype == torch.float32 and not model.training
    assert type(onlooker.AutoProcessor.from_pretrained(MODELS[folder])) is processor_class
    assert type(onlooker.AutoModelForImageTextToText.from_pretrained(MODELS[folder])) is model_class
    assert Onlooker.from_pretrained(MODELS[folder], device="cpu").description.startswith(MODELS[folder])


def test_the_wheel_holds_all_of_their_files(tmp_path):
    wanted = {path.relative_to(ROOT / "src").as_posix() for folder in MODELS for path in files_of(FOLDER / folder)}
    tool = _hatch_settings()
    assert tool["targets"]["wheel"] == {"packages": ["src/onlooker"]}, "the wheel's reach has changed: look again"
    assert "exclude" not in tool and "src" in tool["targets"]["sdist"]["include"]
    ignored = [line for line in (ROOT / ".gitignore").read_text().split() if not line.startswith("#")]
    hidden = [(name, line) for name in wanted for line in ignored if _matches(f"src/{name}", line)]
    assert not hidden, f"hatch leaves out what git ignores: {hidden}"
    if importlib.util.find_spec("hatchling") is None:
        return
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        assert wanted <= set(held.namelist())


def _hatch_settings() -> dict:
    with contextlib.suppress(ImportError):
        import tomllib

        return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    pytest.skip("Python 3.10 reads no TOML by itself")


def _matches(path: str, pattern: str) -> bool:
    """Whether a line of .gitignore hides a file, for the kinds of lines that ours has."""
    parts = path.split("/")
    if pattern.startswith("/"):
        return fnmatch.fnmatch(parts[0], pattern.strip("/"))
    return any(fnmatch.fnmatch(part, pattern.strip("/")) for part in (parts[:-1] if pattern.endswith("/") else parts))


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["ask", "examples/squares.mp4", "which way does the cyan square move?"], "video-llava-tiny", r"down"),
        (["ask", "examples/shapes.png", "what shape is the pink thing?"], "video-llava-tiny", r"cross"),
        (
            ["rank", "examples/star.mp4", "what does the green star do?", "-c", "turns", "-c", "appears"],
            "video-llava-tiny",
            r".* appears",
        ),
        (["match", "examples/shapes.png", truth("shapes.png")["caption"]], "blip2-itm-tiny", r"ITM +(100|[5-9]\d)\..*"),
    ],
    ids=["ask a clip", "ask a picture", "rank", "match"],
)
def test_the_command_line_answers_offline_and_says_what_answers(words, name, expected):
    out, err = onlook(*words)
    assert re.fullmatch(expected, out.splitlines()[0]), out
    assert f"built-in onlooker/{name} knows only coloured shapes that move" in err and err.count("\n") == 1


@pytest.mark.parametrize(("file", "name"), [("shapes.png", "blip2-tiny"), ("growing.mp4", "video-llava-tiny")])
def test_the_command_line_captions_offline(file, name):
    out, err = onlook("caption", f"examples/{file}")
    assert stated_facts(out) == stated_facts(truth(file)["caption"]), out
    assert f"built-in onlooker/{name} knows only" in err and err.count("\n") == 1


def test_a_conversation_is_held_offline():
    out, err = onlook("chat", "examples/star.mp4", typed="what does the green star do?\nis there a red square?\n")
    assert out.split() == ["appears", "no"] and "built-in onlooker/video-llava-tiny" in err


def test_the_readme_shows_what_the_commands_print():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = 0
    for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL):
        first, _, printed = block.partition("\n")
        if "examples/" in first:
            out, err = onlook(*shlex.split(first)[2:])
            assert f"{err}{out}".split() == printed.split(), first
            shown += 1
    assert shown >= 2


def test_the_demo_is_right(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SHEET", tmp_path / "demo.png")
    right = demo.demo()
    assert sum(right) >= FEWEST_RIGHT * len(right), capsys.readouterr().out
