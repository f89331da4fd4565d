"""Names of the package's own: they stand for folders inside it, with no hub behind them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import onlooker
from onlooker import Onlooker, checkpoints
from onlooker.convert import convert
from onlooker.errors import ModelNotFoundError
from onlooker.hub import fetch, find_file, plan_fetch
from tests.pipeline.conftest import STAND_INS, picture

SOURCE = Path(onlooker.__file__).parent
CLASSES = {
    "blip2-tiny": onlooker.Blip2ForConditionalGeneration,
    "blip2-itm-tiny": onlooker.Blip2ForImageTextRetrieval,
    "instructblipvideo-tiny": onlooker.InstructBlipVideoForConditionalGeneration,
    "video-llava-tiny": onlooker.VideoLlavaForConditionalGeneration,
}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_name_of_the_packages_own_loads_everywhere_without_the_hub(name, embedded, no_hub):
    full, folder = f"onlooker/{name}", embedded / name
    model = CLASSES[name].from_pretrained(full)
    wanted = CLASSES[name].from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in model.state_dict().items())
    assert type(onlooker.AutoConfig.from_pretrained(full)) is type(onlooker.AutoConfig.from_pretrained(folder))
    assert len(onlooker.AutoTokenizer.from_pretrained(full)) == len(onlooker.AutoTokenizer.from_pretrained(folder))
    assert type(onlooker.AutoProcessor.from_pretrained(full)) is type(onlooker.AutoProcessor.from_pretrained(folder))
    auto = onlooker.AutoModelForImageTextToText.from_pretrained(full)
    assert auto.config.to_dict() == onlooker.AutoModelForImageTextToText.from_pretrained(folder).config.to_dict()
    eyes = Onlooker.from_pretrained(full, dtype="fp32", device="cpu")
    assert eyes.description.startswith(f"{full}: ")
    if name == "blip2-itm-tiny":
        assert 0 <= eyes.match(picture(0), "two").probability <= 1
    else:
        assert eyes.ask(picture(0), "What?", max_new_tokens=2).num_tokens <= 2


def test_a_folder_of_that_name_wins(embedded, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["opt"], "onlooker/blip2-tiny")
    assert onlooker.AutoConfig.from_pretrained("onlooker/blip2-tiny").text_config.model_type == "opt"
    assert find_file("onlooker/blip2-tiny", "config.json") == Path("onlooker/blip2-tiny/config.json")


def test_an_unknown_name_of_the_package_lists_those_that_are(no_hub):
    for call in (
        lambda: find_file("onlooker/blip3", "config.json"),
        lambda: Onlooker.from_pretrained("onlooker/blip3"),
    ):
        with pytest.raises(ModelNotFoundError, match=re.escape("There is no onlooker/blip3.")) as error:
            call()
        assert all(f"onlooker/{name}" in str(error.value) for name in STAND_INS)
    assert set(STAND_INS) == {name.removeprefix("onlooker/") for name in checkpoints.NAMES}


def test_a_checkpoint_that_an_installation_lacks_is_missed_by_name(tmp_path, monkeypatch, no_hub):
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    with pytest.raises(ModelNotFoundError, match="this installation is not complete"):
        Onlooker.from_pretrained("onlooker/video-llava-tiny")


def test_there_is_nothing_to_fetch(embedded, no_hub):
    assert fetch("onlooker/blip2-tiny") == embedded / "blip2-tiny"
    with pytest.raises(ValueError, match="onlooker/blip2-tiny is here already"):
        plan_fetch("onlooker/blip2-tiny")


def test_it_is_converted_like_any_folder(embedded, no_hub, tmp_path):
    made = convert("onlooker/blip2-tiny", tmp_path / "out", dtype="bfloat16")
    assert json.loads((made.folder / "config.json").read_text())["torch_dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="is the source, or holds it"):
        convert("onlooker/blip2-tiny", embedded / "blip2-tiny", force=True)


def test_a_copy_of_the_package_brings_its_checkpoints_along(folders, tmp_path):
    """As installed: another interpreter, the package elsewhere, and nobody who sets a folder."""
    package = tmp_path / "site" / "onlooker"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__", "*-tiny"))
    shutil.copytree(folders["opt"], package / "checkpoints" / "blip2-tiny")
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from onlooker.hub import find_file
print(find_file("onlooker/blip2-tiny", "config.json"), "huggingface_hub" in sys.modules, "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={"PYTHONPATH": str(package.parent)}, capture_output=True, text=True)
    wanted = package / "checkpoints" / "blip2-tiny" / "config.json"
    assert done.stdout.split() == [str(wanted), "False", "False"], done.stderr
