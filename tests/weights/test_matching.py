"""What is missing, left over or of another shape is said by name; nothing is skipped in silence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onlooker.errors import CheckpointError

from .nets import IDS, Net, net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net().save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder: Path, change) -> dict[str, torch.Tensor]:
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    tensors = change(tensors) or tensors
    file.unlink()
    save_file(tensors, file)
    return tensors


def test_missing_tensors_are_an_error_that_lists_them(folder: Path) -> None:
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in ("scale", "layers.0.fc.bias")] and None)
    with pytest.raises(CheckpointError, match=r"lacks 2 tensors of Net: .*layers\.0\.fc\.bias.*allow_missing=True"):
        Net.from_pretrained(folder)


def test_missing_parts_say_which_checkpoints_have_them(folder: Path) -> None:
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if name != "embed.weight"})
    with pytest.raises(CheckpointError, match=r"language_model: found in checkpoints that generate text"):
        Net.from_pretrained(folder)


def test_allow_missing_initialises_and_warns_once(folder: Path) -> None:
    rewrite(folder, lambda t: [t.pop(n) for n in ("scale", "layers.0.fc.bias", "layers.0.fc.weight")] and None)
    with pytest.warns(UserWarning, match="lacks 3 tensors") as caught:
        model = Net.from_pretrained(folder, allow_missing=True)
    assert len(caught) == 1
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert model.layers[0].fc.weight.std() > 0
    assert torch.isfinite(model(IDS)).all()


def test_left_over_tensors_warn_once_and_fail_when_strict(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"banana.weight": torch.ones(2), "layers.7.fc.bias": torch.ones(2)}))
    with pytest.warns(
        UserWarning, match=r"2 tensors that Net does not use: banana\.weight, layers\.7\.fc\.bias"
    ) as seen:
        Net.from_pretrained(folder)
    assert len(seen) == 1
    with pytest.raises(CheckpointError, match="strict=True"):
        Net.from_pretrained(folder, strict=True)


def test_parts_that_the_class_does_not_have_are_left_without_a_word(folder: Path) -> None:
    others = {"vision_model.encoder.layers.0.fc.weight": torch.ones(2), "itm_head.bias": torch.ones(2)}
    rewrite(folder, lambda tensors: tensors.update(others))
    Net.from_pretrained(folder, strict=True)  # warnings are errors in these tests


def test_tables_that_nobody_needs_are_left_without_a_word(folder: Path) -> None:
    rewrite(
        folder, lambda t: t.update({"layers.0.position_ids": torch.arange(3), "rotary_emb.inv_freq": torch.ones(2)})
    )
    Net.from_pretrained(folder, strict=True)


def test_a_part_loads_out_of_a_composite_folder_by_prefix(folder: Path) -> None:
    rewrite(folder, lambda t: {f"language_model.{n}": v for n, v in t.items()} | {"qformer.x": torch.ones(1)})
    config = {"model_type": "composite", "net_config": json.loads((folder / "config.json").read_text())}
    (folder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        assert torch.equal(Net.from_pretrained(folder, strict=True)(IDS), net()(IDS))


def test_another_kind_of_checkpoint_is_refused_by_its_model_type(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(CheckpointError, match=r"model_type 'gpt2' \(GPT2LMHeadModel\), but Net loads 'tiny-net'"):
        Net.from_pretrained(folder)


def test_another_shape_is_an_error_that_names_the_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"scale": torch.ones(1, 1, 9)}))
    with pytest.raises(CheckpointError, match=r"scale: \(1, 1, 9\) in the file, \(1, 1, 8\) by the config"):
        Net.from_pretrained(folder, allow_missing=True)


def test_old_spellings_and_wrappers_are_understood(folder: Path) -> None:
    rewrite(folder, lambda t: {"module." + name.replace("layers.", "body."): v for name, v in t.items()})
    with torch.no_grad():
        assert torch.equal(Net.from_pretrained(folder, strict=True)(IDS), net()(IDS))


@pytest.mark.parametrize("stored", ["both", "only the duplicate"])
def test_tied_duplicates_in_a_file_are_one_parameter(folder: Path, stored: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["embed.weight"].clone()
        if stored != "both":
            del tensors["embed.weight"]

    rewrite(folder, change)
    model = Net.from_pretrained(folder, strict=True)
    assert model.lm_head.weight is model.embed.weight
    with torch.no_grad():
        assert torch.equal(model(IDS), net()(IDS))


def test_a_head_of_its_own_is_kept_though_the_config_says_tied(folder: Path) -> None:
    tensors = rewrite(folder, lambda t: t.update({"lm_head.weight": t["embed.weight"] + 1}))
    model = Net.from_pretrained(folder)
    assert model.config.tie_word_embeddings is False
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])
    assert torch.equal(model.embed.weight, tensors["embed.weight"])


def test_unknown_keywords_are_refused_and_known_fields_override(folder: Path) -> None:
    with pytest.raises(TypeError, match="'torch_dtpye'"):
        Net.from_pretrained(folder, torch_dtpye="bfloat16")
    assert Net.from_pretrained(folder, num_layers=2, output_attentions=True).config.output_attentions is True


def test_a_config_given_is_used_and_not_changed(folder: Path) -> None:
    config = Net.config_class.from_pretrained(folder)
    rewrite(folder, lambda t: {n: v for n, v in t.items() if not n.startswith("layers.1")})
    config.num_layers = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Net.from_pretrained(folder, config=config, torch_dtype="bfloat16")
    assert len(model.layers) == 1
    assert config.torch_dtype == torch.float32
