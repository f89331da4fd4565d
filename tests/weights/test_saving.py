"""What is saved is a published checkpoint: shards, index, no duplicates, safe to write over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from onlooker.weights.naming import RenameTable
from onlooker.weights.saving import parse_size

from .nets import IDS, Net, net


def test_saving_writes_config_and_weights_without_tied_duplicates(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architectures"], config["model_type"], config["torch_dtype"]) == (["Net"], "tiny-net", "float32")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(net().state_dict()) - {"lm_head.weight"}


@pytest.mark.skipif(os.name != "posix", reason="files have modes on POSIX")
@pytest.mark.parametrize("safe_serialization", [True, False])
def test_whoever_may_read_the_config_may_read_the_weights(tmp_path: Path, safe_serialization: bool) -> None:
    net().save_pretrained(tmp_path, max_shard_size=400, safe_serialization=safe_serialization)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_shards_stay_below_the_limit_and_the_index_lists_every_tensor(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path, max_shard_size="0.7KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert [file.name for file in shards] == [
        f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)
    ]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    for file in shards:
        with safe_open(file, "pt") as handle:
            names = list(handle.keys())
            assert names == sorted(name for name, shard in index["weight_map"].items() if shard == file.name)
            assert sum(handle.get_tensor(name).nbytes for name in names) <= 700


@pytest.mark.parametrize(("size", "wanted"), [("5GB", 5 * 10**9), ("200MiB", 200 * 2**20), ("1.5kb", 1500), (7, 7)])
def test_sizes_are_read_in_their_units(size, wanted: int) -> None:
    assert parse_size(size) == wanted


def test_a_size_without_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="max_shard_size '5 apples' is no size"):
        parse_size("5 apples")


@pytest.mark.parametrize("shard_size", ["5GB", 400])
def test_a_model_may_be_saved_over_the_files_it_is_a_view_of(tmp_path: Path, shard_size) -> None:
    net().save_pretrained(tmp_path, max_shard_size=400)
    model = Net.from_pretrained(tmp_path)
    with torch.no_grad():
        model.scale.mul_(2)
        wanted = model(IDS)
        model.save_pretrained(tmp_path, max_shard_size=shard_size)
        assert torch.equal(model(IDS), wanted)
        assert torch.equal(Net.from_pretrained(tmp_path, strict=True)(IDS), wanted)
    assert (tmp_path / "model.safetensors").exists() == (shard_size == "5GB")
    assert not list(tmp_path.glob(".*"))


def test_shards_of_an_earlier_save_do_not_stay(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path, max_shard_size=400)
    net(num_layers=1).save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_dtype_that_most_weights_have_is_written(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path)
    model = Net.from_pretrained(tmp_path, dtype="float16")
    assert model.scale.dtype == torch.float32
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float16"
    assert Net.from_pretrained(tmp_path, dtype="auto").embed.weight.dtype == torch.float16


def test_published_names_are_written_and_read_where_they_differ(tmp_path: Path) -> None:
    class Renamed(Net):
        disk_names = RenameTable([("published.{rest:.+}", "layers.{rest}")])

    model = Renamed(net().config).eval()
    model.load_state_dict(net().state_dict())
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "published.0.fc.weight" in file.keys()  # noqa: SIM118
    with torch.no_grad():
        assert torch.equal(Renamed.from_pretrained(tmp_path, strict=True)(IDS), net()(IDS))


def test_bin_shards_hold_no_more_than_their_tensors(tmp_path: Path) -> None:
    model = net()
    with torch.no_grad():
        model.layers[0].fc.weight = torch.nn.Parameter(torch.zeros(1000, 8)[:8])
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "pytorch_model.bin").stat().st_size < 12_000
