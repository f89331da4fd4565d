"""The language model learns to watch before it talks: its lowest layers turn a clip into what `spoken` says of it.

What a patch shows now is compared there with earlier frames; the layers above already know how to find in it what a
question asks for, and words pass through unchanged.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from onlooker.train.assemble import take_part
from onlooker.train.data.record import Turn
from onlooker.train.stages import Stage
from onlooker.train.world import dialogue, draw_scene
from onlooker.train.world.facts import Scene
from onlooker.train.world.render import render_with_owners
from onlooker.train.world.tracks import frame_times, place
from recipes import spoken
from recipes.language import as_said, talk
from recipes.numbered import Numbered
from recipes.tiny import FRAMES, PATCH, SIZE, WATCHING
from recipes.towers import normalised, shares_of_patches


class Watched(Numbered):
    """Clips with what each of their tokens says. A row is the clip of a seed of the train split."""

    def row(self, seed: int) -> Any:
        scene = draw_scene(seed, "train")
        frames, owners = render_with_owners(scene, SIZE, FRAMES)
        shares = shares_of_patches(owners, len(scene.things), PATCH)
        said, places = spoken.say(scene, shares)
        asked = dialogue(scene, random.Random(f"{scene.id} watched"), 3)
        return {
            "frames": frames,
            "said": said,
            "places": places,
            "changes": _changes(scene, said, shares),
            "turns": [Turn(question.text, question.answer) for question in asked],
        }


def _changes(scene: Scene, said: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How far the thing of each patch has moved and grown since the frame before: [F, P, 3]."""
    tracks = place(scene.things, frame_times(FRAMES))
    moved = np.zeros((len(scene.things), FRAMES, 3), np.float32)
    moved[:, 1:] = np.diff(tracks[..., :3], axis=1) * (10, 10, 50)
    changes = moved[shares.argmax(0), np.arange(FRAMES)[:, None]]
    return changes * (said[:, 1:, :1] > 0)


class Collate:
    """A batch of watched clips, the words of a dialogue behind each."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.begin = torch.tensor(tokenizer("user:")["input_ids"])

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        batch = {"pixel_values_videos": normalised(np.stack([row["frames"] for row in rows]))}
        for name in ("said", "places", "changes"):
            batch[name] = torch.from_numpy(np.stack([row[name] for row in rows]))
        batch["begin"] = self.begin.expand(len(rows), -1)
        batch["behind"] = pad_sequence([talk(self.tokenizer, row["turns"])[0] for row in rows], batch_first=True)
        return batch


class Watching(Stage):
    """What each token says, as a whole and word by word, and how the thing in each patch changes.

    A word that may be known or not is not scored.
    """

    name = "watching"
    families = ("video_llava",)
    trains = (r"model\.multi_modal_projector\.", rf"model\.language_model\.layers\.[0-{WATCHING - 1}]\.")

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.changes = nn.Linear(model.config.text_config.hidden_size, 3)  # type: ignore[union-attr]
        self.sharpness = nn.Parameter(torch.full((len(spoken.CHANNELS),), 2.0))
        self.nothing = nn.Parameter(torch.zeros(len(spoken.CHANNELS)))

    def forward(
        self, pixel_values_videos: Tensor, said: Tensor, places: Tensor, changes: Tensor, begin: Tensor, behind: Tensor
    ) -> dict[str, Tensor]:
        table = self.model.get_input_embeddings().weight.detach()
        seen, _ = self.model.get_video_features(pixel_values_videos)  # [B * F, 1 + P, D]
        visual = seen.reshape(len(said), -1, seen.shape[-1])
        words = [spoken.embed(table, as_said(ids), ids.new_zeros(2)) for ids in (begin, behind)]
        front, clip, back = self._watch([words[0], visual, words[1]])
        wanted = spoken.embed(table, said, places)  # [B, F, 1 + P, D]
        clip = clip.view_as(wanted)
        scale = wanted.var()
        is_sure = (said != spoken.UNSURE).all(-1)
        spoken_loss = F.mse_loss(clip[is_sure], wanted[is_sure]) / scale
        kept = F.mse_loss(front, words[0]) + F.mse_loss(back[behind > 0], words[1][behind > 0])
        patches, is_thing = clip[:, :, 1:], said[:, :, 1:, 0] > 0
        change_loss = F.smooth_l1_loss(self.changes(patches)[is_thing], changes[is_thing].float())
        terms = {"spoken": spoken_loss, "kept": kept / scale, "changes": change_loss}
        terms |= self._word_by_word(patches, said[:, :, 1:], table)
        loss = torch.stack([terms[name] for name in terms if not name.endswith("accuracy")]).sum()
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

    def _watch(self, parts: list[Tensor]) -> tuple[Tensor, ...]:
        """Run the lowest layers over embedded tokens."""
        language = self.model.model.language_model
        states = torch.cat(parts, 1)
        rotary = language.rotary(torch.arange(states.shape[1])[None], states.dtype)
        for layer in language.layers[:WATCHING]:
            states, _ = language.run_layer(layer, states, rotary, None, True, None, False)
        return states.split([part.shape[1] for part in parts], 1)

    def _word_by_word(self, patches: Tensor, said: Tensor, table: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the words of each channel, read along their embeddings, and how many are right."""
        terms, states = {}, F.layer_norm(patches, patches.shape[-1:])
        for number, (name, spoken_words) in enumerate(spoken.CHANNELS.items()):
            numbers = torch.tensor([spoken.NUMBER_OF[word] for word in spoken_words])
            along = self.sharpness[number] * states @ F.normalize(table[numbers], dim=-1).T
            scores = torch.cat([self.nothing[number].expand(*along.shape[:-1], 1), along], -1)
            said_here = said[..., number]
            wanted = (said_here[..., None] == numbers).long().argmax(-1) + 1
            wanted = wanted.where(said_here > 0, said_here)  # none and UNSURE are as they are
            terms[name] = F.cross_entropy(scores.flatten(0, 2), wanted.flatten(), ignore_index=spoken.UNSURE)
            terms[f"{name}_accuracy"] = (scores.argmax(-1) == wanted)[said_here > 0].float().mean()
        return terms


@torch.no_grad()
def begin(model: Any) -> None:
    """First values of the watching layers: they change nothing."""
    for layer in model.model.language_model.layers[:WATCHING]:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


@torch.no_grad()
def put_on_top(model: Any, language: Any) -> None:
    """Put a language model above the watching layers of a Video-LLaVA."""
    for part in ("model.language_model.embed_tokens", "model.language_model.norm", "lm_head"):
        take_part(model, part, language)
    for layer, given in zip(model.model.language_model.layers[WATCHING:], language.model.layers, strict=True):
        layer.load_state_dict(given.state_dict())
