"""A contact sheet: the frames that a model looked at, each with its time, on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from onlooker.media import Frames
from onlooker.pipeline.media import Medium
from onlooker.pipeline.times import clock

_MARGIN, _GAP, _COLUMNS = 28, 14, 4
_LONG_SIDE, _LEAST_WIDTH = 300, 150  # pixels of a frame on the sheet
_PAPER, _INK, _PALE, _STRIP = "#16181d", "#f2f3f5", "#9aa0aa", "#0b0c0f"


@dataclass(frozen=True)
class _Section:
    """One clip or picture: what is written above it, and its frames, small, with what is written below each."""

    name: str
    facts: str
    answer: str
    cells: list[tuple[Image.Image, str, str]]


class ContactSheet:
    """Collects frames, made small as they come, and draws them.

    Args:
        title: a line above everything, such as the question.
    """

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._sections: list[_Section] = []

    @property
    def is_empty(self) -> bool:
        return not self._sections

    def add(self, medium: Medium, name: str, answer: str = "") -> None:
        """Put the frames of a clip, or a picture, below those that are there.

        Args:
            medium: `Frames`, or uint8 [h, w, 3].
            answer: what was said about them.
        """
        if isinstance(medium, Frames):
            pictures = medium.to_pil()
            below = [(clock(second), f"frame {index}") for second, index in zip(medium.seconds, medium.indices)]
            facts = f"{len(medium)} frames" + (f", {medium.fps:.4g} frames/s" if medium.fps else "")
        else:
            pictures, below, facts = [Image.fromarray(medium)], [("", "")], "picture"
        width, height = pictures[0].size
        small = _small_size(width, height)
        cells = [
            (each.resize(small, Image.Resampling.LANCZOS, reducing_gap=3.0), *b) for each, b in zip(pictures, below)
        ]
        self._sections.append(_Section(name, f"{facts}, {width} x {height}", answer, cells))

    def draw(self) -> Image.Image:
        """The sheet.

        Raises:
            ValueError: nothing was added.
        """
        if not self._sections:
            raise ValueError("there is nothing on this contact sheet: add frames first")
        inner = max(_section_width(section) for section in self._sections)
        width = max(inner, 560) + 2 * _MARGIN
        pen = _Pen(width)
        pen.measure_only = True
        height = self._lay_out(pen)
        pen = _Pen(width, height)
        self._lay_out(pen)
        return pen.image

    def save(self, path: str | Path) -> None:
        """Draw it into a file; the suffix says the format.

        Raises:
            OSError: the file cannot be written.
        """
        self.draw().save(path)

    def _lay_out(self, pen: _Pen) -> int:
        """Draw everything from top to bottom; gives the height."""
        top = _MARGIN
        if self._title:
            top = pen.text(self._title, top, 24, _INK, lines=3) + 16
        for number, section in enumerate(self._sections):
            if number:
                top = pen.rule(top)
            top = pen.text(section.name, top, 17, _INK, beside=section.facts) + 8
            if section.answer:
                top = pen.text(section.answer, top, 17, "#8fd0a5", lines=4) + 8
            top = pen.frames(section.cells, top + 4)
        return top + _MARGIN


class _Pen:
    """Draws rows from the top down; each method gives where the next row begins."""

    def __init__(self, width: int, height: int = 1) -> None:
        self.width = width
        self.image = Image.new("RGB", (width, height), _PAPER)
        self.measure_only = False
        self._draw = ImageDraw.Draw(self.image)

    def text(self, text: str, top: int, size: int, fill: str, *, beside: str = "", lines: int = 1) -> int:
        font, room = _font(size), self.width - 2 * _MARGIN
        extra = _font(14)
        if beside:
            room -= int(extra.getlength(beside)) + 24
            at = (self.width - _MARGIN, top + size)
            self._draw.text(at, beside, fill=_PALE, font=extra, anchor="rs")
        for row in _wrapped(text, font, room, lines):
            self._draw.text((_MARGIN, top + size), row, fill=fill, font=font, anchor="ls")
            top += round(size * 1.4)
        return top

    def rule(self, top: int) -> int:
        self._draw.line([(_MARGIN, top + 14), (self.width - _MARGIN, top + 14)], fill="#343943", width=1)
        return top + 32

    def frames(self, cells: Sequence[tuple[Image.Image, str, str]], top: int) -> int:
        width, height = cells[0][0].size
        strip = 30 if cells[0][1] else 0
        columns = _columns(len(cells), width)
        for number, (picture, time, index) in enumerate(cells):
            row, column = divmod(number, columns)
            left, upper = _MARGIN + column * (width + _GAP), top + row * (height + strip + _GAP)
            if self.measure_only:
                continue
            self.image.paste(picture, (left, upper))
            if strip:
                below = upper + height
                self._draw.rectangle([left, below, left + width - 1, below + strip - 1], fill=_STRIP)
                self._draw.text((left + 9, below + strip / 2), time, fill=_INK, font=_font(16), anchor="lm")
                spot = (left + width - 9, below + strip / 2)
                self._draw.text(spot, index, fill=_PALE, font=_font(13), anchor="rm")
        return top + math.ceil(len(cells) / columns) * (height + strip + _GAP) - _GAP


def _small_size(width: int, height: int) -> tuple[int, int]:
    """Long side of a fixed length, and wide enough for a time and a number below."""
    scale = max(_LONG_SIDE / max(width, height), min(_LEAST_WIDTH / width, 2 * _LONG_SIDE / height))
    return max(_LEAST_WIDTH, round(width * scale)), max(1, round(height * scale))


def _columns(count: int, width: int) -> int:
    """Up to four, or as many narrow ones as fill the same room; rows as even as can be."""
    most = max(_COLUMNS, (_COLUMNS * (_LONG_SIDE + _GAP)) // (width + _GAP))
    rows = math.ceil(count / most)
    return math.ceil(count / rows)


def _section_width(section: _Section) -> int:
    width = section.cells[0][0].width
    return _columns(len(section.cells), width) * (width + _GAP) - _GAP


def _wrapped(text: str, font: Any, room: int, lines: int) -> list[str]:
    """Words in rows that fit; what does not fit ends in an ellipsis."""
    rows: list[str] = []
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split()).split(" ")
    while words and len(rows) < lines:
        count = next((n for n in range(len(words), 0, -1) if font.getlength(" ".join(words[:n])) <= room), 1)
        rows.append(" ".join(words[:count]))
        words = words[count:]
    if rows and (words or font.getlength(rows[-1]) > room):
        while rows[-1] and font.getlength(rows[-1] + "\u2026") > room:
            rows[-1] = rows[-1][:-1]
        rows[-1] = rows[-1].rstrip() + "\u2026"
    return rows or [""]


def _font(size: int) -> Any:
    """A font with many scripts where the machine has it, else the one that comes with Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
