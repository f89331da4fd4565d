"""A medium made ready for the vision part: read, turned into pixel values, and named by its content."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onlooker.media import Frames
from onlooker.media.collect import Shrink
from onlooker.media.source import Source
from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.families import Family
from onlooker.pipeline.media import ClipOptions, Medium, find_file, kind_of
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.records import UsedFrames
from onlooker.pipeline.reusing import Reuse
from onlooker.reuse import Entry
from onlooker.reuse.fingerprint import digest, digest_file, digest_values

_PIXELS = 1  # counted up when a release reads media otherwise, so that folders of older ones are not believed


@dataclass(eq=False)
class Look:
    """A medium on its way from its source to `Encoded`.

    Attributes:
        kind: "image" or "video".
        image_size: width and height of what was read.
        num_tokens: places that it takes in a prompt.
        frames: those of a clip.
        digest: of the pixel values and the kind; empty where nothing is to be kept.
        pixels: [3, h, w] or [F, 3, h, w]; None once they were seen.
        features: what the vision part made of them, as soon as it did.
        encoded: made of all that, once.
    """

    kind: str
    image_size: tuple[int, int]
    num_tokens: int
    frames: UsedFrames | None
    digest: str
    pixels: Tensor | None = None
    features: Tensor | None = None
    encoded: Encoded | None = None

    @classmethod
    def of(cls, family: Family, medium: Medium, shrink: Shrink | None, *, is_kept: bool) -> Look:
        """A medium that was opened; `shrink` made its pixel values already if it is a clip that it was used for."""
        kind = kind_of(medium)
        if isinstance(medium, Frames) and shrink is not None and shrink.size is not None:
            values, size = medium.pixels, shrink.size
        else:
            values, size = family.pixels(medium), (medium.shape[-3], medium.shape[-2])
        values = np.ascontiguousarray(values)
        frames = UsedFrames.of(medium) if isinstance(medium, Frames) else None
        key = digest_values(values, kind) if is_kept else ""
        count = family.count(kind, values.shape)
        return cls(kind, (size[1], size[0]), count, frames, key, torch.from_numpy(values))


class Looker:
    """Reads media for one model, those that were read before from the cache as far as it goes.

    A file is the same as another when all its bytes are; neither its name nor its time counts.
    """

    def __init__(self, writer: PromptWriter, reuse: Reuse) -> None:
        self._writer, self._reuse = writer, reuse

    def shrink(self) -> Shrink:
        """Makes pixel values of frames as they come out of the decoder, so that none is kept in full size."""
        family = self._writer.family
        return Shrink(lambda picture: family.clip_pixels(picture[None])[0])

    def look(self, source: Any, clip: ClipOptions, model: Any) -> Look:
        """Read a medium, or find what was made of it before.

        Raises:
            FileNotFoundError, MediaError: it cannot be read.
        """
        if not self._reuse.cache.is_on:
            return self._read(source, clip, None, is_kept=False)[0]
        found = find_file(source, clip) if clip.score is None else None  # a function has no name to go by
        if found is None:
            return self._with_features(self._read(source, clip, None, is_kept=True)[0], model)
        state = _state(found)
        with found.open() as file:
            key = digest(self._settings(clip), digest_file(file))
        known = self._reuse.cache.get("source", key)
        if known is not None:
            look = self._with_features(_from_facts(self._writer.family, known.facts), model)
            if look.features is not None:
                self._say_again(look, clip, known.facts)
                return look
        look, said = self._read(source, clip, found, is_kept=True)
        if _state(found) == state:  # else the name might stand for bytes that were not the ones read
            self._reuse.cache.put("source", key, Entry(facts=_facts(look, said)))
        return self._with_features(look, model)

    def _read(self, source: Any, clip: ClipOptions, found: Source | None, *, is_kept: bool) -> tuple[Look, list[str]]:
        """A medium that is not known, and what was warned of."""
        shrink = self.shrink()
        medium = self._writer.open(source, clip, shrink=shrink, found=found)
        said = medium.warnings if isinstance(medium, Frames) else []
        return Look.of(self._writer.family, medium, shrink, is_kept=is_kept), said

    def _say_again(self, look: Look, clip: ClipOptions, facts: Mapping[str, str]) -> None:
        """Warn as if the file had been read."""
        if look.frames is not None:
            self._writer.clip_arguments(clip)
        for text in json.loads(facts["warnings"]):
            warnings.warn(text, UserWarning, stacklevel=2)

    def _with_features(self, look: Look, model: Any) -> Look:
        found = self._reuse.features(model, look.digest)
        if found is not None:
            look.features, look.pixels = found, None
        return look

    def _settings(self, clip: ClipOptions) -> list[Any]:
        """Everything but the bytes that decides on pixel values."""
        processor, family = self._writer.processor, self._writer.family
        parts = [getattr(processor, name, None) for name in ("image_processor", "video_processor")]
        options = [None if part is None else part.to_dict() for part in parts]
        chosen = clip.arguments(family.trained_frames, family.trained_sampling)
        return [_PIXELS, family.name, options, {name: repr(value) for name, value in chosen.items()}]


def _state(found: Source) -> Any:
    """What changes when somebody writes to a file."""
    if found.path is None:
        return None
    facts = os.stat(found.path)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _facts(look: Look, said: list[str]) -> dict[str, str]:
    assert look.pixels is not None  # it was just read
    frames = None if look.frames is None else [look.frames.indices, look.frames.seconds]
    values = {"kind": look.kind, "size": look.image_size, "shape": list(look.pixels.shape), "digest": look.digest}
    return {name: json.dumps(value) for name, value in {**values, "frames": frames, "warnings": said}.items()}


def _from_facts(family: Family, facts: Mapping[str, str]) -> Look:
    kind, size, shape, key, frames = (json.loads(facts[k]) for k in ("kind", "size", "shape", "digest", "frames"))
    used = None if frames is None else UsedFrames(tuple(frames[0]), tuple(frames[1]))
    return Look(kind, (size[0], size[1]), family.count(kind, shape), used, key)
