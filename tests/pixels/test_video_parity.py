"""Clips get the values of the reference's video processors, and of its picture processors with `resize_with`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from onlooker.pixels import (
    InstructBlipVideoImageProcessor,
    InstructBlipVideoVideoProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaVideoProcessor,
)
from tests.oracle import reference

MEDIA = Path(__file__).parents[1] / "data" / "media"
CLIPS = {
    "InstructBlipVideoVideoProcessor": (InstructBlipVideoVideoProcessor, "pixel_values"),
    "VideoLlavaVideoProcessor": (VideoLlavaVideoProcessor, "pixel_values_videos"),
}


def clip(rng: np.random.Generator, frames: int | None = None) -> np.ndarray:
    height, width = rng.integers(6, 80, 2)
    return rng.integers(0, 256, (frames or rng.integers(1, 9), height, width, 3), dtype=np.uint8)


def in_some_form(rng: np.random.Generator, frames: np.ndarray) -> object:
    """The same clip as people hand it over, as far as the reference takes it."""
    form = rng.choice(["last", "first", "tensor", "pillow", "list", "nested"])
    if form == "first":
        return frames.transpose(0, 3, 1, 2)
    if form == "tensor":  # the reference takes tensors with channels first only
        return torch.from_numpy(frames).permute(0, 3, 1, 2)
    if form == "pillow":
        return [Image.fromarray(frame) for frame in frames]
    return [frames] if form == "list" else [[frames]] if form == "nested" else frames


def random_options(rng: np.random.Generator, exact: bool) -> dict:
    side = int(rng.integers(3, 60))
    sizes = [{"height": side, "width": int(rng.integers(3, 60))}]
    sizes += [] if exact else [{"shortest_edge": side}, {"shortest_edge": side}]
    options = {
        "do_resize": bool(rng.random() < 0.85),
        "size": sizes[rng.integers(len(sizes))],
        "resample": int(rng.choice([2, 3, 3])),
        "do_rescale": bool(rng.random() < 0.8),
        "rescale_factor": float(rng.choice([1 / 255, 1 / 127.5])),
        "do_normalize": bool(rng.random() < 0.8),
    }
    if not exact:
        options["do_center_crop"] = bool(rng.random() < 0.7)
        options["crop_size"] = {"height": int(rng.integers(3, 70)), "width": int(rng.integers(3, 70))}
    if rng.random() < 0.5:
        options["image_mean"] = [float(value) for value in rng.random(3)]
        options["image_std"] = [float(value) for value in 0.1 + rng.random(3)]
    return options


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("seed", range(30))
def test_random_clips_and_options_give_the_references_values(name, seed):
    ours, key = CLIPS[name]
    rng = np.random.default_rng(seed)
    options, videos = random_options(rng, exact="Instruct" in name), in_some_form(rng, clip(rng))
    theirs = reference(name, **options)(videos, return_tensors="pt")[key]
    given = ours(**options)(videos, return_tensors="pt")[key]
    assert given.dtype == torch.float32 and tuple(given.shape) == theirs.shape
    np.testing.assert_allclose(given.numpy(), theirs, rtol=1e-6, atol=2e-6)
    called = ours()(videos, return_tensors="np", **options)[key]
    assert np.array_equal(called, given.numpy())


@pytest.mark.parametrize("name", CLIPS)
def test_the_resized_levels_are_bit_equal_and_pillows_at_most_two_away(name):
    ours, key = CLIPS[name]
    frames = np.asarray(Image.open(MEDIA / "elephant.jpg").convert("RGB"))[None]
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
    theirs = reference(name)(frames, **{**raw, "return_tensors": "pt"})[key]
    assert np.array_equal(ours()(frames, **raw)[key], theirs.astype(np.float32))
    difference = np.abs(ours(resize_with="pillow")(frames, **raw)[key] - theirs)
    assert difference.max() <= 2 and difference.mean() < 0.05


@pytest.mark.parametrize("seed", range(25))
def test_pictures_and_clips_of_video_llava_equal_the_references_picture_processor(seed):
    rng = np.random.default_rng(seed)
    options = random_options(rng, exact=False)
    frames = clip(rng, 3)
    pictures = [Image.fromarray(frame) for frame in frames] if seed % 2 else list(frames)
    theirs = transformers.VideoLlavaImageProcessor(**options)(images=pictures, videos=[pictures], return_tensors="np")
    ours = VideoLlavaImageProcessor(**options)(images=pictures, videos=[pictures], return_tensors="np")
    assert set(ours) == {"pixel_values_images", "pixel_values_videos"}
    for key in ours:
        assert ours[key].dtype == np.float32
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_pillow_makes_the_clip_processor_equal_the_references_picture_processor():
    frames = clip(np.random.default_rng(5), 3)
    theirs = transformers.InstructBlipVideoImageProcessor()(list(map(Image.fromarray, frames)), return_tensors="np")
    ours = InstructBlipVideoImageProcessor(resize_with="pillow")(frames, return_tensors="np")
    assert np.array_equal(ours["pixel_values"], theirs["pixel_values"])


@pytest.mark.parametrize("form", ["last", "first", "fortran", "reversed", "read-only", "float", "frames", "bfloat16"])
def test_every_memory_layout_gives_the_same_values(form):
    frames = clip(np.random.default_rng(6), 3)
    expected = VideoLlavaVideoProcessor()(frames)["pixel_values_videos"][0]
    given = {
        "last": frames.copy(),
        "first": np.ascontiguousarray(frames.transpose(0, 3, 1, 2)),
        "fortran": np.asfortranarray(frames),
        "reversed": np.ascontiguousarray(frames[:, :, ::-1])[:, :, ::-1],
        "read-only": np.frombuffer(frames.tobytes(), dtype=np.uint8).reshape(frames.shape),
        "float": frames.astype(np.float64),
        "frames": list(frames.transpose(0, 3, 1, 2)),
        "bfloat16": torch.from_numpy(frames).to(torch.bfloat16),
    }[form]
    assert np.array_equal(VideoLlavaVideoProcessor()(given)["pixel_values_videos"][0], expected)


def test_files_are_read_by_either_library(tmp_path):
    options = {"size": {"shortest_edge": 40}, "crop_size": {"height": 30, "width": 20}, "image_mean": [0.1, 0.2, 0.3]}
    frames = clip(np.random.default_rng(7), 2)
    VideoLlavaVideoProcessor(**options).save_pretrained(tmp_path / "ours")
    reference("VideoLlavaVideoProcessor", **options).call("save_pretrained", str(tmp_path / "theirs"))
    theirs = reference("AutoVideoProcessor.from_pretrained", str(tmp_path / "ours"))
    expected = VideoLlavaVideoProcessor(**options)(frames, return_tensors="np")["pixel_values_videos"]
    again = VideoLlavaVideoProcessor.from_pretrained(tmp_path / "theirs")
    assert np.array_equal(again(frames, return_tensors="np")["pixel_values_videos"], expected)
    np.testing.assert_allclose(theirs(frames, return_tensors="pt")["pixel_values_videos"], expected, atol=2e-6)


def test_files_of_instructblipvideo_are_read_by_either_library(tmp_path):
    size = {"height": 20, "width": 30}
    frames = clip(np.random.default_rng(8), 2)
    InstructBlipVideoImageProcessor(size=size).save_pretrained(tmp_path / "ours")
    reference("InstructBlipVideoVideoProcessor", size=size).call("save_pretrained", str(tmp_path / "theirs"))
    theirs = reference("AutoVideoProcessor.from_pretrained", str(tmp_path / "ours"))
    expected = InstructBlipVideoImageProcessor(size=size)(frames, return_tensors="np")["pixel_values"]
    again = InstructBlipVideoImageProcessor.from_pretrained(tmp_path / "theirs")
    assert np.array_equal(again(frames, return_tensors="np")["pixel_values"], expected)
    np.testing.assert_allclose(theirs(frames, return_tensors="pt")["pixel_values"], expected, atol=2e-6)
    slow = transformers.VideoLlavaImageProcessor
    VideoLlavaImageProcessor(size=50).save_pretrained(tmp_path / "pictures")
    assert slow.from_pretrained(tmp_path / "pictures").to_dict() == slow(size={"shortest_edge": 50}).to_dict()
