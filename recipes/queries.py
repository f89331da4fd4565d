"""InstructBLIP's queries learn the language that Video-LLaVA's decoder already understands.

The decoder then reads both, as one Vicuna serves both families in the papers, and stays frozen while the Q-Former
learns to heed the instruction.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.train.stages import Stage
from onlooker.train.world import dialogue, draw_scene, render_at, words_of
from recipes.numbered import Numbered
from recipes.tiny import SIZE, SPECIAL, words
from recipes.towers import normalised

_NUMBERS = {word: number for number, word in enumerate(words())}
_CLS, _SEP = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")


class Frames(Numbered):
    """Frames of clips at random times, each with a question about its clip; a row for each seed of the train split."""

    def row(self, seed: int) -> Any:
        scene = draw_scene(seed, "train")
        rng = random.Random(f"{scene.id} frame")
        frames, _ = render_at(scene, np.array([rng.random()]), SIZE)
        return {"frame": frames[0], "question": dialogue(scene, rng, 1)[0].text}


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Frames, and the words of their questions between [CLS] and [SEP]."""
    texts = [[_CLS, *(_NUMBERS[word] for word in words_of(row["question"])), _SEP] for row in rows]
    longest = max(map(len, texts))
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    pixels = normalised(np.stack([row["frame"] for row in rows]))
    return {"pixel_values": pixels, "qformer_input_ids": ids, "qformer_attention_mask": mask}


class Imitation(Stage):
    """Mean squared difference between the projected queries and the teacher's projected features, for each token.

    Args:
        teacher: a Video-LLaVA; it is not trained, and not saved.
    """

    name = "queries"
    families = ("instructblipvideo",)
    trains = (r"query_tokens$", r"qformer\.", r"language_projection\.")

    def __init__(self, model: nn.Module, teacher: nn.Module) -> None:
        super().__init__(model)
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that it is no part of this module

    def forward(
        self, pixel_values: Tensor, qformer_input_ids: Tensor, qformer_attention_mask: Tensor
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self._teacher[0].get_video_features(pixel_values[:, None])[0]  # type: ignore[operator]
            patches = self.model.vision_model(pixel_values, return_dict=True).last_hidden_state
        ones = [1] * len(patches)
        said, _ = self.model.read_patches(patches, ones, qformer_input_ids, qformer_attention_mask)
        said = said.reshape(wanted.shape)
        spread = wanted.var((0, 1)).mean()
        loss = F.mse_loss(said, wanted) / spread
        return {"loss": loss, "unexplained": loss.detach()}
