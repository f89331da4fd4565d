"""The published checkpoints, name by name and shape by shape, on the meta device."""

import json
import re
from pathlib import Path

import pytest
import torch

import onlooker

LAYOUTS = sorted((Path(__file__).parents[1] / "data" / "layouts").glob("*.json"))


def expand(entries: list[dict]) -> dict[str, tuple[int, ...]]:
    """{a..b} or {a..b..step} in a pattern stands for one tensor per index, both ends included."""
    shapes = {}
    for entry in entries:
        pattern, shape = entry["pattern"], tuple(entry["shape"])
        found = re.search(r"\{(\d+)\.\.(\d+)(?:\.\.(\d+))?\}", pattern)
        if found is None:
            shapes[pattern] = shape
            continue
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        for index in range(first, last + 1, step):
            shapes[pattern.replace(found[0], str(index))] = shape
    return shapes


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_every_tensor_has_its_published_name_and_shape(path):
    layout = json.loads(path.read_text())
    wanted = expand(layout["tensors"])
    assert len(wanted) == layout["counts"]["tensors"]
    cls = getattr(onlooker, layout["class"])
    with torch.device("meta"):
        model = cls(cls.config_class(**layout["config"]))
    on_disk = cls.disk_names.to_file if cls.disk_names else str
    shapes = {on_disk(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = model.tied_weights()
    assert {name: shape for name, shape in shapes.items() if name not in tied} == wanted
    # What a file may hold besides is a duplicate that we know, or a buffer that nobody needs.
    for name, shape in expand(layout.get("optional", [])).items():
        assert shapes.get(name, shape) == shape
        assert name in tied or name.endswith(("position_ids", "rotary_emb.inv_freq"))
    assert sum(parameter.numel() for parameter in model.parameters()) == layout["counts"]["parameters"]


def test_the_layouts_are_there():
    assert {path.stem for path in LAYOUTS} >= {
        "blip2-opt-2.7b",
        "blip2-opt-6.7b",
        "blip2-flan-t5-xl",
        "blip2-flan-t5-xxl",
        "blip2-itm-vit-g",
        "instructblip-flan-t5-xl",
        "instructblip-vicuna-7b",
        "video-llava-7b-hf",
    }
