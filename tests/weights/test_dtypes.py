"""Dtypes on load: one, one per part, as stored, or by policy; what overflows in float16 stays float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onlooker.weights.policy import default_dtype, describe_dtypes, parse_dtype, reference_dtypes

from .nets import Net, net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("keyword", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("spelling", [torch.bfloat16, "bfloat16", "torch.bfloat16", "bf16"])
def test_a_dtype_may_be_spelled_in_many_ways(folder: Path, keyword: str, spelling) -> None:
    model = Net.from_pretrained(folder, **{keyword: spelling})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config.torch_dtype == torch.bfloat16


def test_without_a_dtype_everything_is_float32(folder: Path) -> None:
    Net.from_pretrained(folder, dtype="bf16").save_pretrained(folder)
    assert Net.from_pretrained(folder).dtype == torch.float32


def test_auto_takes_the_config_and_then_the_weights(folder: Path) -> None:
    Net.from_pretrained(folder, dtype="bf16").save_pretrained(folder)
    assert Net.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16
    config = json.loads((folder / "config.json").read_text())
    for spelling in ("dtype", "torch_dtype"):
        (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": None, spelling: "float32"}))
        assert Net.from_pretrained(folder, dtype="auto").dtype == torch.float32
    del config["torch_dtype"]
    (folder / "config.json").write_text(json.dumps(config))
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    tensors["scale"] = tensors["scale"].float()
    save_file(tensors, file)
    model = Net.from_pretrained(folder, dtype="auto")
    assert (model.scale.dtype, model.embed.weight.dtype) == (torch.float32, torch.bfloat16)


def test_float16_keeps_named_parameters_in_float32_and_bfloat16_casts_all(folder: Path) -> None:
    model = Net.from_pretrained(folder, dtype="fp16")
    assert model.embed.weight.dtype == model.layers[0].fc.weight.dtype == model.offset.dtype == torch.float16
    assert model.scale.dtype == model.layers[1].norm.bias.dtype == torch.float32
    assert Net.from_pretrained(folder, dtype="bf16").scale.dtype == torch.bfloat16


def test_float16_on_a_cpu_is_advised_against_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onlooker.pretrained.load._SLOW_FROM", 10)
    monkeypatch.setattr("onlooker.pretrained.load._said", set())
    better = "bf16" if default_dtype(torch.device("cpu")) == torch.bfloat16 else "fp32"
    with pytest.warns(UserWarning, match=f'slower than dtype="{better}" on this CPU: load with that') as said:
        Net.from_pretrained(folder, dtype="fp16")
    assert len(said) == 1 and "\n" not in str(said[0].message)
    Net.from_pretrained(folder, dtype="fp16")  # warnings are errors here
    for dtype in ("bf16", "fp32", "default"):
        monkeypatch.setattr("onlooker.pretrained.load._said", set())
        Net.from_pretrained(folder, dtype=dtype)


def test_a_mapping_gives_each_part_its_dtype(folder: Path) -> None:
    model = Net.from_pretrained(folder, dtype={"": "bf16", "layers": torch.float64, "layers.1": "fp16"})
    assert model.embed.weight.dtype == torch.bfloat16
    assert model.layers[0].fc.weight.dtype == torch.float64
    assert model.layers[1].fc.weight.dtype == torch.float16
    assert describe_dtypes(model) == "scale bfloat16, embed bfloat16, layers float64 + float16 + float32"


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float15", "dtype 'float15' is not known.*'auto', a policy"),
        ({"vision": "bf16"}, "no part 'vision'. Its parts are scale, offset, embed, layers"),
        (torch.int8, "no floating-point type"),
    ],
)
def test_wrong_dtypes_say_what_is_possible(folder: Path, dtype, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Net.from_pretrained(folder, dtype=dtype)


def test_two_names_of_the_option_must_agree(folder: Path) -> None:
    with pytest.raises(ValueError, match="two names of one option"):
        Net.from_pretrained(folder, dtype="bf16", torch_dtype="fp16")


def test_policies_of_the_documents() -> None:
    assert parse_dtype("fp32") == torch.float32
    assert reference_dtypes("opt")["language_model"] == torch.float16
    assert reference_dtypes("t5") == {
        "": torch.float32,
        "vision_model": torch.float16,
        "language_model": torch.bfloat16,
    }


def test_the_default_is_bfloat16_only_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for has_it in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, has_it=has_it: has_it)
        monkeypatch.setattr("onlooker.weights.policy._cpu_has_bf16", lambda has_it=has_it: has_it)
        assert default_dtype(cuda) == (torch.bfloat16 if has_it else torch.float16)
        assert default_dtype(cuda, is_t5=True) == (torch.bfloat16 if has_it else torch.float32)
        assert default_dtype(cpu) == (torch.bfloat16 if has_it else torch.float32)
    assert default_dtype(torch.device("mps")) == torch.float32
