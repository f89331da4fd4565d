"""`onlooker quantize`: a smaller folder that loads like the original."""

from __future__ import annotations

import json

import pytest

from onlooker import Onlooker
from onlooker.cli import main
from onlooker.quant.report import weight_report
from tests.pipeline.conftest import picture


def run(*arguments, capsys):
    code = main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("kind", ["opt", "t5", "instructblip-llama", "video-llava"])
def test_a_folder_of_each_family_becomes_smaller_and_still_answers(folders, kind, tmp_path, capsys):
    target = tmp_path / "small"
    code, out, err = run("quantize", folders[kind], target, "--int4", "--vision", "--json", capsys=capsys)
    assert code == 0, err
    told = json.loads(out)
    assert told["folder"] == str(target) and told["bytes"] < told["bytes_before"] and told["linears"] > 0
    before, after = (
        sum(file.stat().st_size for file in each.glob("*.safetensors")) for each in (folders[kind], target)
    )
    assert after < before
    looker = Onlooker.from_pretrained(target, device="cpu")
    dtypes = {each.dtype for each in weight_report(looker.model)}
    assert {"int4", "int8"} <= dtypes
    assert isinstance(looker.ask(picture(1), "What is this?", max_new_tokens=2).text, str)
    config = json.loads((target / "config.json").read_text())
    assert config["quantization_config"]["language"] == "int4"


def test_it_says_what_it_needs_and_keeps_what_is_there(folders, tmp_path, capsys):
    code, _, err = run("quantize", folders["opt"], tmp_path / "out", capsys=capsys)
    assert code == 2 and "--int8 or --int4" in err
    code, _, err = run("quantize", folders["opt"], tmp_path / "out", "--int8", "--int4", capsys=capsys)
    assert code == 2 and "exclude each other" in err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    code, _, err = run("quantize", folders["opt"], tmp_path / "out", "--int8", capsys=capsys)
    assert code == 1 and "not empty" in err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_is_quantised_already_is_refused(folders, tmp_path, capsys):
    assert run("quantize", folders["t5"], tmp_path / "one", "--int8", "--quiet", capsys=capsys)[0] == 0
    code, _, err = run("quantize", tmp_path / "one", tmp_path / "two", "--int4", capsys=capsys)
    assert code == 1 and "stored quantised" in err
    assert not (tmp_path / "two").exists()
