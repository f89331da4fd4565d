"""Device maps: a device, a mapping, "auto", and parts that stay on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from .nets import IDS, Net, net

MIXED = {"embed": "cpu", "lm_head": "cpu", "layers.0": "disk", "layers.1": "cpu", "scale": "cpu", "offset": "cpu"}


@pytest.fixture(params=["safetensors", "bin"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    net().save_pretrained(tmp_path, safe_serialization=request.param == "safetensors")
    return tmp_path


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, torch.device("cpu"), "auto", "balanced", "sequential"])
def test_every_way_to_say_cpu_loads_there(folder: Path, device_map) -> None:
    model = Net.from_pretrained(folder, device_map=device_map)
    assert {str(device) for device in model.hf_device_map.values()} == {"cpu"}
    with torch.no_grad():
        assert torch.equal(model(IDS), net()(IDS))


@pytest.mark.parametrize("apart", [(), ("layers.1",), ("layers.1.fc",)])
@pytest.mark.parametrize("rest", ["cpu", "disk"])
def test_the_rest_of_a_device_map_may_be_on_disk_or_around_what_is(folder: Path, rest: str, apart: tuple) -> None:
    other = {"cpu": "disk", "disk": "cpu"}[rest]
    model = Net.from_pretrained(folder, device_map={"": rest, **dict.fromkeys(apart, other)})
    with torch.no_grad():
        assert torch.equal(model(IDS), net()(IDS))


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_parts_on_disk_give_the_same_answer_and_can_be_saved(folder: Path, tmp_path: Path, dtype) -> None:
    model = Net.from_pretrained(folder, device_map=MIXED, dtype=dtype, offload_folder=tmp_path / "offload")
    plain = Net.from_pretrained(folder, dtype=dtype)
    assert model.layers[0].fc.weight.is_meta
    assert model.device == torch.device("cpu")
    with torch.no_grad():
        assert torch.equal(model(IDS), plain(IDS))
        model.save_pretrained(tmp_path / "again")
        assert torch.equal(Net.from_pretrained(tmp_path / "again", dtype=dtype)(IDS), plain(IDS))


def test_copies_of_what_stays_on_disk_go_when_the_process_ends(tmp_path: Path) -> None:
    net().save_pretrained(tmp_path / "model", safe_serialization=False)
    (tmp_path / "temporary").mkdir()
    code = f"""
        from tests.weights.nets import Net
        Net.from_pretrained({str(tmp_path / "model")!r}, device_map={MIXED!r})
        import os
        print(os.listdir({str(tmp_path / "temporary")!r}))
    """
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, timeout=120, check=True)
    assert "onlooker-offload-" in done.stdout
    assert not list((tmp_path / "temporary").iterdir())


def test_auto_leaves_on_disk_what_memory_does_not_hold(tmp_path: Path) -> None:
    net(hidden_size=64).save_pretrained(tmp_path)
    model = Net.from_pretrained(tmp_path, device_map="auto", max_memory={"cpu": 30_000})
    assert "disk" in model.hf_device_map.values()
    with torch.no_grad():
        assert torch.equal(model(IDS), Net.from_pretrained(tmp_path)(IDS))


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("nowhere", "device_map 'nowhere' is not known. Give a device"),
        ({"embed": "cpu"}, r"names no device for 11 tensors: .*Add their modules, or ''"),
    ],
)
def test_wrong_device_maps_say_what_is_possible(tmp_path: Path, device_map, message: str) -> None:
    net().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        Net.from_pretrained(tmp_path, device_map=device_map)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device_map", [0, "cuda", {"": "cuda:0"}, "auto", {**MIXED, "embed": 0, "lm_head": 0}])
def test_weights_go_to_the_gpu(tmp_path: Path, device_map) -> None:
    net().save_pretrained(tmp_path)
    model = Net.from_pretrained(tmp_path, device_map=device_map)
    assert model.embed.weight.device.type == "cuda"
    with torch.no_grad():
        torch.testing.assert_close(model(IDS.cuda()).cpu(), net()(IDS), atol=1e-5, rtol=1e-4)
