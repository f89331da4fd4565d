"""With compiled code the processors give, bit for bit, what they give without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from onlooker.native import resizing
from onlooker.pixels import (
    BlipImageProcessor,
    InstructBlipVideoVideoProcessor,
    VideoLlavaImageProcessor,
    VideoLlavaVideoProcessor,
)

PROCESSORS = {
    "blip": lambda **options: BlipImageProcessor(**options)(pictures(), return_tensors="np")["pixel_values"],
    "blip, channels last": lambda **options: BlipImageProcessor(**options)(
        pictures(), return_tensors="np", data_format="channels_last"
    )["pixel_values"],
    "instructblipvideo": lambda **options: InstructBlipVideoVideoProcessor(**options)(clip(), return_tensors="np")[
        "pixel_values"
    ],
    "video-llava": lambda **options: VideoLlavaVideoProcessor(**options)(clip(), return_tensors="np")[
        "pixel_values_videos"
    ],
    "video-llava, pictures": lambda **options: VideoLlavaImageProcessor(**options)(pictures(), return_tensors="np")[
        "pixel_values_images"
    ],
    "video-llava, paper": lambda **options: VideoLlavaVideoProcessor(preprocessing="paper", **options)(
        clip(), return_tensors="np"
    )["pixel_values_videos"],
}


def clip() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 70, 93, 3), dtype=np.uint8)


def pictures() -> list[Any]:
    """As they come: Pillow's own, arrays that may not be written, mirrored ones, tall and broad ones, fractions."""
    rng = np.random.default_rng(1)
    sizes = [(61, 40), (40, 61), (224, 224), (300, 90), (2, 5), (17, 500)]
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    arrays[0].setflags(write=False)
    gray, clear = Image.fromarray(arrays[1]).convert("L"), Image.fromarray(arrays[3]).convert("RGBA")
    mirrored, upside_down = arrays[2][:, ::-1], arrays[3][::-1]
    return [*arrays, gray, clear, mirrored, upside_down, arrays[5][:, 3:400:2], arrays[0] / 255]


@pytest.mark.skipif(not resizing.can_resize(), reason="no compiler, or no AVX512-VBMI and VNNI")
@pytest.mark.filterwarnings("ignore:pixel values lie in 0..1")
@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("resize_with", ["torch", "pillow"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_compiled_code_changes_no_bit(
    name: str, resize_with: str, resample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[dict[str, Any]] = [{"size": {"height": 30, "width": 224}}, {"size": {"height": 301, "width": 45}}]
    if name.startswith("video-llava"):
        sizes = [*sizes, {"size": {"shortest_edge": 57}, "crop_size": 57}]
        # larger than the picture one way or both, where zeros come around it
        sizes += [] if "paper" in name else [{"size": {"shortest_edge": 50}, "crop_size": (61, 44)}]
        sizes = [{"crop_size": 29, **options} for options in sizes]
    for options in sizes:
        options = {"resize_with": resize_with, "resample": resample, **options}
        compiled = PROCESSORS[name](**options)
        with monkeypatch.context() as without:
            without.setattr(resizing, "_library", lambda: None)
            assert np.array_equal(compiled, PROCESSORS[name](**options)), options
