"""The names of LAVIS, where BLIP-2 and InstructBLIP were trained, and the published names of the same tensors.

A LAVIS file has no language model as a rule, often no vision tower (both were frozen), and its tower keeps the query
and value biases apart (see `biases`), for which the tables name a place beside the fused bias.
"""

from __future__ import annotations

from collections.abc import Iterable

from onlooker.weights.naming import RenameTable

_Pairs = list[tuple[str, str | None]]

#: in front of the vision tower's names, which its own file (eva_vit_g.pth) leaves out
TOWER = "visual_encoder."

_BLOCK, _LAYER = "visual_encoder.blocks.{layer}", "vision_model.encoder.layers.{layer}"
_VISION: _Pairs = [
    ("visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
    ("visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
    ("visual_encoder.patch_embed.proj.{kind}", "vision_model.embeddings.patch_embedding.{kind}"),
    (f"{_BLOCK}.norm{{n:[12]}}.{{kind}}", f"{_LAYER}.layer_norm{{n}}.{{kind}}"),
    (f"{_BLOCK}.attn.qkv.weight", f"{_LAYER}.self_attn.qkv.weight"),
    (f"{_BLOCK}.attn.{{which:[qv]}}_bias", f"{_LAYER}.self_attn.{{which}}_bias"),
    (f"{_BLOCK}.attn.proj.{{kind}}", f"{_LAYER}.self_attn.projection.{{kind}}"),
    (f"{_BLOCK}.mlp.fc{{n:[12]}}.{{kind}}", f"{_LAYER}.mlp.fc{{n}}.{{kind}}"),
    ("ln_vision.{kind}", "vision_model.post_layernorm.{kind}"),
]
_BERT, _QFORMER_LAYER = "Qformer.bert.encoder.layer.{layer}", "qformer.encoder.layer.{layer}"
_ATTENTION = "{attention:attention|crossattention}"
_QFORMER: _Pairs = [
    ("Qformer.bert.embeddings.position_ids", None),
    ("Qformer.cls.{rest:.+}", None),  # the head that wrote captions in stage 1
    (f"{_BERT}.{_ATTENTION}.self.{{rest:.+}}", f"{_QFORMER_LAYER}.{_ATTENTION}.attention.{{rest}}"),
    (f"{_BERT}.{_ATTENTION}.output.{{rest:.+}}", f"{_QFORMER_LAYER}.{_ATTENTION}.output.{{rest}}"),
    (
        f"{_BERT}.{{part:(?:intermediate|output)(?:_query)?}}.{{rest:.+}}",
        f"{_QFORMER_LAYER}.{{part}}.{{rest}}",
    ),
    ("query_tokens", "query_tokens"),
]
_BARE_QUERIES: _Pairs = [("Qformer.bert.embeddings.LayerNorm.{kind}", "qformer.layernorm.{kind}")]
_WITH_INSTRUCTION: _Pairs = [
    ("Qformer.bert.embeddings.LayerNorm.{kind}", "qformer.embeddings.layernorm.{kind}"),
    (
        "Qformer.bert.embeddings.{table:word|position}_embeddings.weight",
        "qformer.embeddings.{table}_embeddings.weight",
    ),
]
_FOR_RETRIEVAL: _Pairs = [
    *_BARE_QUERIES,
    ("Qformer.bert.embeddings.{table:word|position}_embeddings.weight", "embeddings.{table}_embeddings.weight"),
    ("vision_proj.{kind}", "vision_projection.{kind}"),
    ("text_proj.{kind}", "text_projection.{kind}"),
    ("itm_head.{kind}", "itm_head.{kind}"),
    ("temp", None),  # temperature of the contrastive loss, which scores do not use
]


def _language(name: str) -> _Pairs:
    return [
        (f"{name}_proj.{{kind}}", "language_projection.{kind}"),
        (f"{name}_model.{{rest:.+}}", "language_model.{rest}"),
    ]


BLIP2_OPT = RenameTable([*_VISION, *_QFORMER, *_BARE_QUERIES, *_language("opt")])
BLIP2_T5 = RenameTable([*_VISION, *_QFORMER, *_BARE_QUERIES, *_language("t5")])
INSTRUCTBLIP_VICUNA = RenameTable([*_VISION, *_QFORMER, *_WITH_INSTRUCTION, *_language("llm")])
INSTRUCTBLIP_T5 = RenameTable([*_VISION, *_QFORMER, *_WITH_INSTRUCTION, *_language("t5")])
RETRIEVAL = RenameTable([*_VISION, *_QFORMER, *_FOR_RETRIEVAL])

_TABLES = {
    "blip2_opt": BLIP2_OPT,
    "blip2_t5": BLIP2_T5,
    "blip2_vicuna_instruct": INSTRUCTBLIP_VICUNA,
    "blip2_t5_instruct": INSTRUCTBLIP_T5,
    "blip2_qformer": RETRIEVAL,
}


def table_of(kind: str) -> RenameTable:
    """The table of a LAVIS model, by its name there."""
    return _TABLES[kind]


def kind_of(names: Iterable[str]) -> str | None:
    """The LAVIS model that tensors of these names belong to, by its name there; None for another layout."""
    present = set(names)
    if "query_tokens" not in present or "Qformer.bert.embeddings.LayerNorm.weight" not in present:
        return None
    reads_text = "Qformer.bert.embeddings.word_embeddings.weight" in present
    if "opt_proj.weight" in present:
        return "blip2_opt"
    if "t5_proj.weight" in present:
        return "blip2_t5_instruct" if reads_text else "blip2_t5"
    if "llm_proj.weight" in present:
        return "blip2_vicuna_instruct"
    return "blip2_qformer" if "itm_head.weight" in present else None
