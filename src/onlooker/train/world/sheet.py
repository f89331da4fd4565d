"""Contact sheets: frames of several clips in rows, with a line of text below each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw


def contact_sheet(
    clips: Sequence[np.ndarray], texts: Sequence[str] = (), *, scale: int = 1, columns: int = 1
) -> Image.Image:
    """Clips [F, h, w, 3] as rows of frames.

    Args:
        texts: one for each clip, or none.
        scale: a pixel becomes so many in each direction.
        columns: clips side by side.
    """
    height = max(clip.shape[1] for clip in clips) * scale + 2
    width = max(len(clip) * (clip.shape[2] * scale + 2) for clip in clips) + 6
    label = 13 if texts else 0
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (width * columns, rows * (height + label + 3)), (16, 16, 16))
    pen = ImageDraw.Draw(sheet)
    for number, clip in enumerate(clips):
        left, top = (number % columns) * width, (number // columns) * (height + label + 3)
        for place, frame in enumerate(clip):
            picture = Image.fromarray(np.ascontiguousarray(frame))
            picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + place * (picture.width + 2), top))
        if texts:
            pen.text((left, top + height - 2), texts[number][: width // 6], fill=(230, 230, 230))
    return sheet
