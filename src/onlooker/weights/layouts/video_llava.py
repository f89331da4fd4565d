"""The names of the original Video-LLaVA (LanguageBind/Video-LLaVA-7B), and the published -hf names of the same tensors.

The original attends over time in its video tower; the -hf checkpoint has dropped those tensors. `PAPER` keeps them,
under names that continue the published ones, and `HF` drops them.
"""

from __future__ import annotations

from collections.abc import Iterable

from onlooker.weights.naming import RenameTable

_Pairs = list[tuple[str, str | None]]

_TOWER = "model.{which:image|video}_tower.{which}_tower"
_NEVER_NEEDED: _Pairs = [
    (f"{_TOWER}.embeddings.position_ids", None),
    ("model.layers.{layer}.self_attn.rotary_emb.inv_freq", None),
]
_NAMES: _Pairs = [
    (f"{_TOWER}.{{rest:.+}}", "{which:image|video}_tower.vision_model.{rest}"),
    ("model.mm_projector.0.{kind}", "multi_modal_projector.linear_1.{kind}"),
    ("model.mm_projector.2.{kind}", "multi_modal_projector.linear_2.{kind}"),
    ("model.{part:embed_tokens|layers|norm}.{rest:.+}", "language_model.model.{part}.{rest}"),
    ("lm_head.weight", "language_model.lm_head.weight"),
]
_TIME: _Pairs = [("model.video_tower.video_tower.encoder.layers.{layer}.temporal_{rest:.+}", None)]

PAPER = RenameTable([*_NEVER_NEEDED, *_NAMES])
HF = RenameTable([*_NEVER_NEEDED, *_TIME, *_NAMES])


def _tower(which: str) -> RenameTable:
    """The vision half of a LanguageBind CLIP pair; the text half and what compares the two are dropped."""
    return RenameTable(
        [
            ("vision_model.embeddings.position_ids", None),
            ("vision_model.{rest:.+}", f"{which}_tower.vision_model.{{rest}}"),
            ("{other:text_model.*|text_projection.*|visual_projection.*|logit_scale}", None),
        ]
    )


#: the towers' own repositories: LanguageBind_Image and LanguageBind_Video_merge
IMAGE_TOWER, VIDEO_TOWER = _tower("image"), _tower("video")


def is_original(names: Iterable[str]) -> bool:
    """Whether tensors of these names are in the original's layout."""
    return any(name.startswith(("model.mm_projector.", "model.video_tower.video_tower.")) for name in names)
