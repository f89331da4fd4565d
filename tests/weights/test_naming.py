"""Rename tables: each pair is written once and read in both directions."""

from __future__ import annotations

import pytest

from onlooker.weights.naming import RenameTable, substitute

TABLE = RenameTable(
    [
        ("{tower:image_tower|video_tower}.vision_model.{rest:.+}", "model.{tower}.vision_model.{rest}"),
        ("language_model.model.{rest:.+}", "model.language_model.{rest}"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("visual.blocks.{i}.norm{n:[12]}.{p}", "encoder.{i}.layer_norm{n}.{p}"),
        ("visual.blocks.{i}.temporal_{x:.+}", None),
    ]
)


@pytest.mark.parametrize(
    ("in_file", "in_memory"),
    [
        ("video_tower.vision_model.post.weight", "model.video_tower.vision_model.post.weight"),
        ("language_model.model.layers.0.q.weight", "model.language_model.layers.0.q.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("visual.blocks.7.norm2.bias", "encoder.7.layer_norm2.bias"),
        ("query_tokens", "query_tokens"),
    ],
)
def test_a_pair_works_in_both_directions(in_file: str, in_memory: str) -> None:
    assert TABLE.to_memory(in_file) == in_memory
    assert TABLE.to_file(in_memory) == in_file


def test_a_pair_must_match_the_whole_name_and_the_first_wins() -> None:
    assert TABLE.to_memory("x.language_model.lm_head.weight") == "x.language_model.lm_head.weight"
    assert TABLE.to_memory("visual.blocks.7.norm3.bias") == "visual.blocks.7.norm3.bias"
    both = RenameTable([("a.{x}", "first.{x}"), ("{y:.+}", "second.{y}")])
    assert both.to_memory("a.b") == "first.b"
    assert both.to_memory("c.d") == "second.c.d"


def test_a_pair_without_a_right_side_drops_the_tensor() -> None:
    assert TABLE.to_memory("visual.blocks.0.temporal_attn.weight") is None


def test_one_way_rules_apply_in_order() -> None:
    rules = [(r"^old\.", "new."), (r"new\.gamma$", "new.weight")]
    assert substitute(rules, "old.gamma") == "new.weight"
