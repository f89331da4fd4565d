"""The vision tower learns what is where: dense labels that the renderer knows, before any words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onlooker.train.stages import Stage
from onlooker.train.world import draw_scene, render_at
from onlooker.train.world.facts import COLORS, SHAPES
from onlooker.train.world.tracks import place
from recipes.numbered import Numbered
from recipes.tiny import PATCH, SIZE

FRAMES = 2  # of each clip
_COLORS, _SHAPES = list(COLORS), list(SHAPES)
_FOLDS = {"circle": 0, "ring": 0, "square": 4, "triangle": 3, "star": 5, "cross": 4}  # turns that look the same
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class Frames(Numbered):
    """Frames of clips at random times, with what each patch shows. A row is the clip of a seed of the train split."""

    def row(self, seed: int) -> Any:
        scene = draw_scene(seed, "train")
        times = np.random.default_rng([seed, 11]).random(FRAMES)
        frames, owners = render_at(scene, times, SIZE, with_owners=True)
        tracks = place(scene.things, times)  # [things, F, 5]
        return {"frames": frames, **_labels(scene, owners, tracks)}


def _labels(scene: Any, owners: np.ndarray, tracks: np.ndarray) -> dict[str, np.ndarray]:
    """What each patch shows [F, P]: colour and shape from 1, cover, and place, size and turn of its thing."""
    shares = shares_of_patches(owners, len(scene.things), PATCH)
    winner = shares.argmax(0)
    empty = shares.sum(0) < 0.04
    colors = np.array([1 + _COLORS.index(thing.color) for thing in scene.things])
    shapes = np.array([1 + _SHAPES.index(thing.shape) for thing in scene.things])
    folds = np.array([_FOLDS[thing.shape] for thing in scene.things], np.float32)[:, None]
    angles = tracks[..., 3] * folds
    facts = np.stack(
        [
            (tracks[..., 0] - 0.5) * 4,
            (tracks[..., 1] - 0.5) * 4,
            (tracks[..., 2] - 0.13) * 20,
            np.sin(angles) * (folds > 0),
            np.cos(angles) * (folds > 0),
        ],
        -1,
    )  # [things, F, 5]
    rows = np.arange(len(owners))[:, None]
    seen = np.stack([(owners == 1 + n).mean((1, 2)) > 0.006 for n in range(len(scene.things))], 1)  # [F, things]
    present = np.zeros((len(owners), len(_COLORS) * len(_SHAPES)), np.float32)
    for number in range(len(scene.things)):
        present[:, (colors[number] - 1) * len(_SHAPES) + shapes[number] - 1] = seen[:, number]
    return {
        "colors": np.where(empty, 0, colors[winner]),
        "shapes": np.where(empty, 0, shapes[winner]),
        "facts": facts[winner, rows].astype(np.float32),
        "present": present,
    }


def shares_of_patches(owners: np.ndarray, num_things: int, patch_size: int) -> np.ndarray:
    """How much of each patch each thing covers: [things, F, P]."""
    frames, size = owners.shape[:2]
    grid = size // patch_size
    cells = owners.reshape(frames, grid, patch_size, grid, patch_size)
    return np.stack([(cells == 1 + number).mean((2, 4)).reshape(frames, -1) for number in range(num_things)])


def normalised(frames: np.ndarray) -> Tensor:
    """uint8 [..., h, w, 3] -> float32 [..., 3, h, w] as the processors give it."""
    pixels = (frames.astype(np.float32) / 255 - _MEAN) / _STD
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, -3)))


def collate(rows: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """A batch; frames of all clips in one row."""
    batch = {"pixel_values": normalised(np.concatenate([row["frames"] for row in rows]))}
    for name in ("colors", "shapes", "facts", "present"):
        batch[name] = torch.from_numpy(np.concatenate([row[name] for row in rows]))
    return batch


class DenseLabels(Stage):
    """Colour, shape, place, size and turn of what each patch shows, and which things the whole picture shows."""

    name = "tower"
    trains = (".*",)

    def __init__(self, model: nn.Module, *, whiten: bool = False) -> None:
        super().__init__(model)
        width = model.config.hidden_size  # type: ignore[union-attr]
        self.outputs = 1 + len(_COLORS), 1 + len(_SHAPES), 5
        self.patch_head = nn.Linear(width, sum(self.outputs))
        self.picture_head = nn.Linear(width, len(_COLORS) * len(_SHAPES))

        if whiten:
            self._whiten(model)

    @staticmethod
    @torch.no_grad()
    def _whiten(model: Any) -> None:
        """First values of the patch embedding: the main directions of patches, scaled to be about equally strong.

        Shapes are then learnt in a third of the steps that random directions need.
        """
        pixels = collate([Frames(300)[number] for number in range(300)])["pixel_values"]
        patches = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)  # [N * P, 3 * PATCH * PATCH]
        values, directions = torch.linalg.eigh(torch.cov(patches.T))
        convolution = model.embeddings.patch_embedding
        values, directions = (x.flip(-1)[..., : len(convolution.weight)] for x in (values, directions))
        weight = 0.5 * (directions / (values + 1e-3 * values[0]).sqrt()).T
        convolution.weight.copy_(weight.view_as(convolution.weight))
        convolution.bias.copy_(-(weight @ patches.mean(0)))

    def forward(
        self, pixel_values: Tensor, colors: Tensor, shapes: Tensor, facts: Tensor, present: Tensor
    ) -> dict[str, Tensor]:
        states = self.model(pixel_values, return_dict=True).last_hidden_state
        states = F.layer_norm(states, states.shape[-1:])
        color, shape, fact = self.patch_head(states[:, 1:]).split(self.outputs, -1)
        is_thing = colors > 0
        color_loss = F.cross_entropy(color.flatten(0, 1), colors.flatten())
        shape_loss = F.cross_entropy(shape[is_thing], shapes[is_thing])
        fact_loss = F.smooth_l1_loss(fact[is_thing], facts[is_thing])
        picture_loss = F.binary_cross_entropy_with_logits(self.picture_head(states[:, 0]), present) * 4
        return {
            "loss": color_loss + shape_loss + fact_loss + picture_loss,
            "color": color_loss.detach(),
            "shape": shape_loss.detach(),
            "place": fact_loss.detach(),
            "picture": picture_loss.detach(),
            "color_accuracy": (color.argmax(-1) == colors)[is_thing].float().mean(),
            "shape_accuracy": (shape.argmax(-1) == shapes)[is_thing].float().mean(),
        }


@torch.no_grad()
def to_clip(eva: nn.Module, clip: nn.Module) -> None:
    """Copy the weights of a BLIP tower into a CLIP tower of the same sizes.

    They compute nearly the same then: CLIP has no bias in its patch embedding, which the positions take over, and a
    norm in front of its layers, which divides each patch by its own length; it gets the usual length as its weight.
    """
    given, state = eva.state_dict(), {}
    positions = given["embeddings.position_embedding"][0].clone()
    positions[1:] += given["embeddings.patch_embedding.bias"]
    state["embeddings.class_embedding"] = given["embeddings.class_embedding"].flatten()
    state["embeddings.position_embedding.weight"] = positions
    state["embeddings.patch_embedding.weight"] = given["embeddings.patch_embedding.weight"]
    pixels = collate([Frames(100)[number] for number in range(100)])["pixel_values"]
    length = eva.embeddings(pixels).std(-1).mean()  # type: ignore[operator]
    state["pre_layrnorm.weight"] = torch.full_like(positions[0], float(length))
    state["pre_layrnorm.bias"] = torch.zeros_like(positions[0])
    for name, tensor in given.items():
        if name.startswith("encoder.") and ".qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                state[name.replace("qkv", f"{letter}_proj")] = part
        elif name.startswith(("encoder.", "post_layernorm.")):
            state[name.replace("self_attn.projection", "self_attn.out_proj")] = tensor
    clip.vision_model.load_state_dict(state)  # type: ignore[operator, union-attr]
