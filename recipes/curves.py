"""`python -m recipes.curves`: draw how the runs learned, from their logs, for docs/checkpoints.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: picture -> (title, {label: (run, term)}, label of the axis)
PICTURES: dict[str, tuple[str, dict[str, tuple[str, str]], str]] = {
    "towers": (
        "Vision tower on dense labels",
        {
            "color of patches": ("tower", "color_accuracy"),
            "shape of patches": ("tower", "shape_accuracy"),
            "shape, as a CLIP tower": ("clip", "shape_accuracy"),
        },
        "right",
    ),
    "language": (
        "Language models before there are pictures",
        {
            "LLaMA, spoken patches": ("llama", "lm"),
            "LLaMA, more of comparing": ("llama-more", "lm"),
            "T5, retelling and answers": ("t5", "lm"),
        },
        "cross-entropy",
    ),
    "stage1": (
        "BLIP-2, first stage",
        {
            "ITC, right among 64": ("blip2-stage1", "itc_accuracy"),
            "ITM, right with mined negatives": ("blip2-stage1", "itm_accuracy"),
            "ITG, next word right": ("blip2-stage1", "itg_accuracy"),
        },
        "right",
    ),
    "watching": (
        "Watching: what patches say",
        {
            "color, right": ("watching", "colors_accuracy"),
            "shape, right": ("watching", "shapes_accuracy"),
            "what has been done, right": ("watching", "motions_accuracy"),
            "when, right": ("watching", "timings_accuracy"),
        },
        "right",
    ),
    "video": (
        "The stages that learn from words",
        {
            "Video-LLaVA, projector": ("video-llava-projector", "lm"),
            "Video-LLaVA, tuning": ("video-llava", "lm"),
            "BLIP-2, second stage": ("blip2", "lm"),
            "InstructBLIP, dialogues": ("instructblip-talk", "lm"),
            "InstructBLIP, instructions": ("instructblipvideo", "lm"),
        },
        "cross-entropy of answers",
    ),
    "ablations": (
        "With and without, at equal budget",
        {
            "BLIP-2 stage 2 after stage 1": ("blip2-frozen", "lm"),
            "BLIP-2 stage 2 without stage 1": ("blip2-frozen-without-stage1", "lm"),
            "InstructBLIP, instruction-aware": ("instructblip-aware", "lm"),
            "InstructBLIP, unaware": ("instructblip-unaware", "lm"),
        },
        "cross-entropy of answers",
    ),
}


def draw(build: Path, target: Path) -> None:
    """Write every picture whose runs are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name, (title, lines, axis) in PICTURES.items():
        figure, axes = plt.subplots(figsize=(7, 3.4), dpi=110)
        for label, (run, term) in lines.items():
            log = _read(build / run / "log.jsonl")
            if log:
                axes.plot([row["step"] for row in log], [row[term] for row in log], label=label, linewidth=1.3)
        axes.set(title=title, xlabel="step", ylabel=axis)
        if axis == "right":
            axes.set_ylim(0, 1)
        else:
            axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        if axes.lines:
            axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(target / f"{name}.png")
        plt.close(figure)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build/checkpoints"), help="folder of all runs")
    parser.add_argument("--target", type=Path, default=Path("docs/curves"), help="where the pictures go")
    options = parser.parse_args()
    draw(options.build, options.target)
