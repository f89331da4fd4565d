"""`python -m recipes.pack`: put the trained models and their processors into the package, in half precision."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import onlooker
from onlooker.checkpoints import FOLDER
from recipes import tiny

#: folder in the package -> run, class, and what writes its processor
PACKED: dict[str, tuple[str, Any, Callable[[Path], Any]]] = {
    "blip2-tiny": (
        "blip2",
        onlooker.Blip2ForConditionalGeneration,
        lambda folder: tiny.blip2_processor("t5", folder),
    ),
    "blip2-itm-tiny": (
        "blip2-stage1",
        onlooker.Blip2ForImageTextRetrieval,
        lambda folder: tiny.blip2_processor("matching", folder),
    ),
    "instructblipvideo-tiny": (
        "instructblip-more",
        onlooker.InstructBlipVideoForConditionalGeneration,
        tiny.instructblip_processor,
    ),
    "video-llava-tiny": (
        "video-llava",
        onlooker.VideoLlavaForConditionalGeneration,
        tiny.video_llava_processor,
    ),
}


def pack(name: str, build: Path, target: Path) -> int:
    """Write one folder anew; its bytes."""
    run, model_class, write_processor = PACKED[name]
    folder = target / name
    shutil.rmtree(folder, ignore_errors=True)
    model = model_class.from_pretrained(build / run / "model", torch_dtype=torch.float16)
    model.save_pretrained(folder, state_dict={name: tensor.half() for name, tensor in model.state_dict().items()})
    write_processor(folder).save_pretrained(folder)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/checkpoints"), help="folder of all runs")
    parser.add_argument("--target", type=Path, default=FOLDER, help="where the folders go")
    parser.add_argument("--only", nargs="*", choices=list(PACKED), help="these instead of all")
    options = parser.parse_args()
    for name in options.only or PACKED:
        print(f"{name}: {pack(name, options.build, options.target) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
