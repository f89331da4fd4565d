"""The tables of other layouts: each name of each layout once, in both directions, and the steps beside them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from onlooker.weights.layouts import biases, lavis, positions, video_llava
from onlooker.weights.naming import RenameTable
from tests.models.test_published_layouts import expand

DATA = Path(__file__).parents[1] / "data" / "layouts"
#: LAVIS model -> the published checkpoint that was made of it
PUBLISHED = {
    "blip2_opt": "blip2-opt-2.7b",
    "blip2_t5": "blip2-flan-t5-xl",
    "blip2_qformer": "blip2-itm-vit-g",
    "blip2_vicuna_instruct": "instructblip-vicuna-7b",
    "blip2_t5_instruct": "instructblip-flan-t5-xl",
}


def shapes_of(name: str, *, optional: bool = False) -> dict[str, tuple[int, ...]]:
    layout = json.loads((DATA / f"{name}.json").read_text())
    shapes = expand(layout["tensors"])
    assert len(shapes) == layout["counts"]["tensors"]
    return shapes | expand(layout.get("optional", [])) if optional else shapes


def renamed(shapes: dict[str, tuple[int, ...]], table: RenameTable) -> dict[str, tuple[int, ...]]:
    """New name -> shape; no two names may become one, and none may slip through unnoticed."""
    targets = {name: table.to_memory(name) for name in shapes}
    twice = [name for name, count in Counter(filter(None, targets.values())).items() if count > 1]
    assert not twice, twice
    for name, target in targets.items():
        assert target is None or table.to_file(target) == name
        knowing = [left for left, _ in table.pairs if RenameTable([(left, "known")]).to_memory(name) == "known"]
        assert knowing, f"no pair knows {name}"
    return {target: shapes[name] for name, target in targets.items() if target is not None}


def joined(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The same with the two biases of each fused layer made one."""
    result = dict(shapes)
    for name in shapes:
        if name.endswith("self_attn.q_bias"):
            stem = name.removesuffix("q_bias")
            (size,) = result.pop(name)
            assert result.pop(f"{stem}v_bias") == (size,)
            result[f"{stem}qkv.bias"] = (3 * size,)
    return result


@pytest.mark.parametrize("kind", PUBLISHED)
def test_each_lavis_name_becomes_one_published_name_of_its_shape(kind):
    given, wanted = shapes_of(f"original/{kind}", optional=True), shapes_of(PUBLISHED[kind])
    assert lavis.kind_of(given) == kind
    result = joined(renamed(given, lavis.table_of(kind)))
    assert result == {name: shape for name, shape in wanted.items() if not name.startswith("language_model.")}


def test_a_language_model_inside_a_lavis_file_keeps_its_names():
    for kind, name in (("blip2_opt", "opt"), ("blip2_t5", "t5"), ("blip2_vicuna_instruct", "llm")):
        table = lavis.table_of(kind)
        assert table.to_memory(f"{name}_model.lm_head.weight") == "language_model.lm_head.weight"
        assert table.to_file("language_projection.bias") == f"{name}_proj.bias"


def test_the_towers_own_file_has_the_names_of_the_tower_inside_a_lavis_file():
    own = shapes_of("original/eva_vit_g")
    whole = shapes_of("original/blip2_opt")
    tower = {name: shape for name, shape in whole.items() if name.startswith(lavis.TOWER)}
    assert {lavis.TOWER + name: shape for name, shape in own.items()} == tower


@pytest.mark.parametrize("table", [video_llava.PAPER, video_llava.HF], ids=["paper", "hf"])
def test_each_original_video_llava_name_becomes_one_published_name_of_its_shape(table):
    given, wanted = shapes_of("original/video-llava-7b", optional=True), shapes_of("video-llava-7b-hf")
    assert video_llava.is_original(given) and not video_llava.is_original(wanted)
    result = renamed(given, table)
    time = {name: shape for name, shape in result.items() if name not in wanted}
    assert len(time) == (264 if table is video_llava.PAPER else 0)
    assert all(".temporal_" in name and name.startswith("video_tower.vision_model.") for name in time)
    for name, shape in wanted.items():
        rows = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")
        assert result[name] == ((32000, *shape[1:]) if name in rows else shape)
    assert len(result) == len(wanted) + len(time)


@pytest.mark.parametrize("which", ["image", "video"])
def test_the_towers_own_repositories_hold_the_towers_of_the_whole(which):
    name, table = {
        "image": ("languagebind_image", video_llava.IMAGE_TOWER),
        "video": ("languagebind_video_merge", video_llava.VIDEO_TOWER),
    }[which]
    whole = renamed(shapes_of("original/video-llava-7b"), video_llava.PAPER)
    tower = {name: shape for name, shape in whole.items() if name.startswith(f"{which}_tower.")}
    assert renamed(shapes_of(f"original/{name}", optional=True), table) == tower
    assert table.to_memory("text_model.encoder.layers.0.mlp.fc1.weight") is None


def test_other_layouts_are_not_taken_for_one_of_these():
    for name in ("blip2-opt-2.7b", "instructblip-vicuna-7b", "video-llava-7b-hf", "original/eva_vit_g"):
        assert lavis.kind_of(shapes_of(name)) is None
        assert not video_llava.is_original(shapes_of(name))


def test_fused_biases_come_apart_again():
    query, value = torch.randn(5), torch.randn(5)
    bias = biases.join(query, value)
    assert torch.equal(bias, torch.cat([query, torch.zeros(5), value]))
    assert all(torch.equal(a, b) for a, b in zip(biases.split(bias), (query, value)))
    with pytest.raises(ValueError, match="key bias of this layer is not zero"):
        biases.split(torch.ones(6))
    with pytest.raises(ValueError, match=r"shapes \(5,\) and \(4,\)"):
        biases.join(query, value[:4])


def test_a_position_table_grows_as_the_model_interpolates_it():
    from onlooker import Blip2VisionConfig, Blip2VisionModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "patch_size": 4}
    sizes["num_hidden_layers"] = 1
    small = Blip2VisionModel(Blip2VisionConfig(image_size=16, **sizes)).eval()
    large = Blip2VisionModel(Blip2VisionConfig(image_size=28, **sizes)).eval()
    for parameter in small.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    table = small.embeddings.position_embedding.detach()
    values = small.state_dict() | {"embeddings.position_embedding": positions.resize_positions(table, 7)}
    large.load_state_dict(values)
    picture = torch.randn(1, 3, 28, 28)
    wanted = small(picture, interpolate_pos_encoding=True).last_hidden_state
    torch.testing.assert_close(large(picture).last_hidden_state, wanted)
    assert positions.resize_positions(table, 4) is table
    assert positions.grid_side((1, 677, 1408)) == 26
    with pytest.raises(ValueError, match="no place for a class token and a square"):
        positions.grid_side((1, 256, 8))


@pytest.mark.parametrize(
    ("name", "table", "rules"),
    [
        ("blip2_opt", lavis.BLIP2_OPT, ["blip2_generation", "lavis_common"]),
        ("blip2_t5", lavis.BLIP2_T5, ["blip2_generation", "lavis_common"]),
        ("blip2_vicuna_instruct", lavis.INSTRUCTBLIP_VICUNA, ["instructblip", "lavis_common"]),
        ("blip2_t5_instruct", lavis.INSTRUCTBLIP_T5, ["instructblip", "lavis_common"]),
        ("blip2_qformer", lavis.RETRIEVAL, ["blip2_retrieval", "lavis_common"]),
        ("video-llava-7b", video_llava.HF, ["video_llava"]),
    ],
)
def test_a_second_table_written_as_regexes_gives_the_same_names(name, table, rules):
    """Shapes alone would let two layers of one shape change places."""
    tables = json.loads((DATA / "renames" / "tables.json").read_text())
    pairs = [pair for rule in rules for pair in tables[rule]]
    for given in shapes_of(f"original/{name}", optional=True):
        if given.endswith(("attn.q_bias", "attn.v_bias")):
            continue  # a step of its own there
        hit = next((pattern, right) for pattern, right in pairs if re.search(pattern, given))
        assert table.to_memory(given) == (None if hit[1] is None else re.sub(*hit, given))
