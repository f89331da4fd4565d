"""The language model learns to watch before it talks: at every patch, what the thing there has done so far.

Only its lower half learns here: what a patch shows now is compared with earlier frames there, and the upper half is
left to find what a question asks for. Labels are read along the embeddings of their own words, so that "star" in a
question and a star in a patch point the same way, and a shape is as easily found as a color.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.train.stages import Stage
from onlooker.train.world import draw_scene
from onlooker.train.world.facts import COLORS, MOTIONS, SHAPES, TIMINGS, Scene, Thing
from onlooker.train.world.phrasings import VERBS, WHEN
from onlooker.train.world.render import render_with_owners
from onlooker.train.world.tracks import frame_times, place
from recipes.numbered import Numbered
from recipes.tiny import FRAMES, PATCH, SIZE, words
from recipes.towers import normalised, shares_of_patches

IGNORED = -100
_COLORS = list(COLORS)
_NUMBERS = {word: number for number, word in enumerate(words())}
#: the words that the labels are read along, in the order of the labels from 1
_WORDS = {
    "colors": _COLORS,
    "shapes": list(SHAPES),
    "motions": [VERBS[motion][0].split()[-1] for motion in MOTIONS],
    "timings": [WHEN[timing].split()[-1] for timing in TIMINGS],
}
_LATE = 0.02  # of the clip: so long after its end an action is surely over


class Watched(Numbered):
    """Clips with what has happened at each patch so far. A row is the clip of a seed of the train split."""

    def row(self, seed: int) -> Any:
        scene = draw_scene(seed, "train")
        frames, owners = render_with_owners(scene, SIZE, FRAMES)
        return {"frames": frames, **_labels(scene, owners)}


def _labels(scene: Scene, owners: np.ndarray) -> dict[str, np.ndarray]:
    """Colour, shape, motion and timing from 1 (0: nothing there, or not yet) [F, P]; change and place [F, P, 5]."""
    times = frame_times(FRAMES)
    tracks = place(scene.things, times)  # [things, F, 5]
    shares = shares_of_patches(owners, len(scene.things), PATCH)  # [things, F, P]
    _remember_vanished(scene, shares, tracks[..., 4] > 0)
    empty, winner = shares.sum(0) < 0.04, shares.argmax(0)
    facts = np.array(
        [[[_COLORS.index(x.color), SHAPES.index(x.shape), *_so_far(x, t)] for t in times] for x in scene.things]
    )  # [things, F, 4]
    rows = np.arange(FRAMES)[:, None]
    color, shape, motion, timing = np.moveaxis(facts[winner, rows], -1, 0)  # [F, P] each
    moved = np.zeros((len(scene.things), FRAMES, 5), np.float32)
    moved[:, 1:, :3] = np.diff(tracks[..., :3], axis=1) * (10, 10, 50)
    moved[..., 3:] = (tracks[..., :2] - 0.5) * 4
    return {
        "colors": np.where(empty, 0, 1 + color),
        "shapes": np.where(empty, 0, 1 + shape),
        "motions": np.where(empty, 0, motion),
        "timings": np.where(empty, 0, timing),
        "changes": moved[winner, rows] * ~empty[..., None],
    }


def _remember_vanished(scene: Scene, shares: np.ndarray, there: np.ndarray) -> None:
    """Where a thing has vanished, its patches keep its name."""
    for number, thing in enumerate(scene.things):
        gone = ~there[number]
        if thing.motion == "vanish" and not gone.all():
            shares[number, gone] = 0.5 * shares[number, ~gone][-1]


def _so_far(thing: Thing, time: float) -> tuple[int, int]:
    """Motion and timing, from 1, as far as they can be known at a time; IGNORED in between."""
    motion, still = 1 + MOTIONS.index(thing.motion), 1 + MOTIONS.index("still")
    if thing.motion == "still" or time <= thing.begin:
        return still, 0
    timing = 1 + TIMINGS.index(thing.timing or "whole")
    if thing.timing == "whole":
        return (motion, timing) if time > 0.5 else (IGNORED, IGNORED)
    return (motion, timing) if time >= min(thing.end + _LATE, 1.0) else (IGNORED, IGNORED)


def collate(rows: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """A batch; names in the plural are labels."""
    batch = {"pixel_values_videos": normalised(np.stack([row["frames"] for row in rows]))}
    for name in ("colors", "shapes", "motions", "timings", "changes"):
        batch[name] = torch.from_numpy(np.stack([row[name] for row in rows]))
    return batch


class Watching(Stage):
    """Colour, shape, motion, timing and change at every patch, read from the middle of the language model."""

    name = "watching"
    families = ("video_llava",)
    trains = (r"model\.multi_modal_projector\.", r"model\.language_model\.layers\.[01]\.")

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.changes = nn.Linear(model.config.text_config.hidden_size, 5)  # type: ignore[union-attr]
        self.sharpness = nn.Parameter(torch.full((len(_WORDS),), 2.0))
        self.nothing = nn.Parameter(torch.zeros(len(_WORDS)))

    def forward(self, pixel_values_videos: Tensor, changes: Tensor, **labels: Tensor) -> dict[str, Tensor]:
        seen, _ = self.model.get_video_features(pixel_values_videos)  # [B * F, 1 + P, D]
        clips = len(pixel_values_videos)
        visual = seen.reshape(clips, -1, seen.shape[-1])
        start = self.model.get_input_embeddings().weight[:3].expand(clips, -1, -1)  # as many tokens as a prompt has
        language = self.model.model.language_model
        states = torch.cat([start, visual], 1)
        rotary = language.rotary(torch.arange(states.shape[1])[None], states.dtype)
        for layer in language.layers[: len(language.layers) // 2]:
            states, _ = language.run_layer(layer, states, rotary, None, True, None, False)
        patches = states[:, start.shape[1] :].unflatten(1, (-1, seen.shape[1]))[:, :, 1:]  # [B, F, P, D]
        patches = F.layer_norm(patches, patches.shape[-1:])
        table = F.normalize(self.model.get_input_embeddings().weight.detach(), dim=-1)
        change, scores = self.changes(patches), {}
        for number, (name, spoken) in enumerate(_WORDS.items()):
            along = self.sharpness[number] * patches @ table[[_NUMBERS[word] for word in spoken]].T
            scores[name] = torch.cat([self.nothing[number].expand(*along.shape[:-1], 1), along], -1)
        terms = {
            name: F.cross_entropy(score.flatten(0, 2), labels[name].flatten(), ignore_index=IGNORED)
            for name, score in scores.items()
        }
        is_thing = labels["colors"] > 0
        terms["changes"] = F.smooth_l1_loss(change[is_thing], changes[is_thing].float())
        known = is_thing & (labels["motions"] > 0) & (labels["timings"] > 0)
        return {
            "loss": torch.stack(list(terms.values())).sum(),
            **{name: term.detach() for name, term in terms.items()},
            "motion_accuracy": (scores["motions"].argmax(-1) == labels["motions"])[known].float().mean(),
            "timing_accuracy": (scores["timings"].argmax(-1) == labels["timings"])[known].float().mean(),
        }
