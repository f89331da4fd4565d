"""Eight 1080p frames to pixel values: ours against the reference's video and picture processors, in turns.

    OMP_NUM_THREADS=1 python benchmarks/bench_preprocess.py

The reference's video processors need torchvision (`make bench` puts it into the environment's folder `oracle`); without
it only the picture processors are compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.library
from interleaved import compare, ratio
from PIL import Image

import onlooker

MEDIA = Path(__file__).parents[1] / "tests" / "data" / "media"
ROUNDS = 11


def frames() -> np.ndarray:
    """uint8 [8, 1080, 1920, 3]: a photo, moved from frame to frame."""
    photo = Image.open(MEDIA / "elephant.jpg").convert("RGB").resize((1920, 1080))
    return np.stack([np.roll(np.asarray(photo), 40 * number, axis=1) for number in range(8)])


def import_transformers():
    """transformers, with a torchvision that leaves out the kernels where this build of it fails."""
    sys.path.append(str(Path(sys.prefix) / "oracle"))
    register = torch.library.register_fake

    def skip_torchvision(op, func=None, **options):
        if isinstance(op, str) and op.startswith("torchvision::"):
            return (lambda given: given) if func is None else func
        return register(op, func, **options)

    torch.library.register_fake = skip_torchvision
    try:
        import torchvision  # noqa: F401
    except ImportError:
        print("torchvision is not here: no comparison with the video processors")
    torch.library.register_fake = register
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def difference(ours, theirs) -> str:
    """In grey levels: both in 0..255, before the normalisation."""
    steps = (torch.as_tensor(ours) - torch.as_tensor(theirs)).abs()
    return f"largest difference {steps.max():.3g} grey levels, mean {steps.mean():.2g}"


def main() -> None:
    torch.set_num_threads(1)
    transformers = import_transformers()
    clip = frames()
    pictures = [Image.fromarray(frame) for frame in clip]
    print(f"8 frames of 1920x1080, one thread, torch {torch.__version__}, transformers {transformers.__version__}")
    families = {
        "Video-LLaVA": (onlooker.VideoLlavaVideoProcessor, "VideoLlavaVideoProcessor", "pixel_values_videos"),
        "InstructBLIPVideo": (
            onlooker.InstructBlipVideoImageProcessor,
            "InstructBlipVideoVideoProcessor",
            "pixel_values",
        ),
    }
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    for family, (ours, video_name, key) in families.items():
        with_torch, with_pillow = ours(), ours(resize_with="pillow")
        ways = {
            "onlooker": lambda one=with_torch: one(clip, return_tensors="pt"),
            "onlooker, Pillow frames": lambda one=with_torch: one(pictures, return_tensors="pt"),
            "onlooker, resize_with='pillow'": lambda one=with_pillow: one(clip, return_tensors="pt"),
        }
        references = {}
        if "torchvision" in sys.modules:
            references["reference video processor"] = getattr(transformers, video_name)()
        if family == "Video-LLaVA" and hasattr(transformers, "VideoLlavaImageProcessor"):
            slow = transformers.VideoLlavaImageProcessor()
            references["reference picture processor"] = lambda videos, slow=slow, **options: slow(
                None, videos=[videos], **options
            )
        for name, theirs in references.items():
            given = clip if "video" in name.split() else pictures
            ways[name] = lambda theirs=theirs, given=given: theirs(given, return_tensors="pt")
        seconds = compare(ways, rounds=ROUNDS)
        print(f"\n{family}")
        for name, measured in seconds.items():
            print(f"  {name:32s} {1000 * sorted(measured)[len(measured) // 2]:7.1f} ms")
        for name, theirs in references.items():
            middle, low, high = ratio(seconds, name, "onlooker")
            print(f"  {name} / onlooker: {middle:.1f} ({low:.1f} to {high:.1f})")
            given = clip if "video" in name.split() else pictures
            expected = np.asarray(theirs(given, **raw)[key], dtype=np.float32)
            for label, one in (("default", with_torch), ("resize_with='pillow'", with_pillow)):
                print(f"    {label}: {difference(one(clip, **raw)[key], expected)}")


if __name__ == "__main__":
    main()
