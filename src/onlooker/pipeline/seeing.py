"""Media become `Encoded`: read ahead in a thread while the model runs, found again where they were seen before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import torch

from onlooker.errors import OnlookerError
from onlooker.media import Frames
from onlooker.media.ahead import ahead
from onlooker.media.collect import Shrink
from onlooker.pipeline.encoded import Encoded
from onlooker.pipeline.looking import Look, Looker
from onlooker.pipeline.media import IMAGE, VIDEO, ClipOptions
from onlooker.pipeline.prompts import PromptWriter
from onlooker.pipeline.reusing import Reuse
from onlooker.pipeline.uploading import pinned, upload
from onlooker.reuse import Cache

Seen = Any  # Look or Encoded, or the error of a medium that could not be read


class Seer:
    """Sees media, each as seldom as can be.

    Args:
        batch_size: pictures or frames that go through the vision part at once.
        cache: what is kept of media and prompts.
        about: what tells the model from others, beside its configuration and weights.
    """

    def __init__(self, model: Any, writer: PromptWriter, batch_size: int, cache: Cache, *about: Any) -> None:
        self.model = model
        self.batch_size = batch_size
        self._writer = writer
        self._reuse = Reuse(cache, *about)
        self._looker = Looker(writer, self._reuse)
        self._token = object()  # what marks media that this one encoded

    @property
    def cache(self) -> Cache:
        """What is kept of media and prompts; `cache.stats()` says what that was good for."""
        return self._reuse.cache

    def _see(self, media: Sequence[Any], clip: ClipOptions, errors: str = "raise") -> list[Any]:
        """Encode media, each different object once; those encoded before by the same owner pass through.

        Raises:
            ValueError: an `Encoded` of another model, or frames asked for of one.
            FileNotFoundError, MediaError: a medium that cannot be read; with errors="return" it comes back instead.
        """
        found: list[Any] = []
        with closing(self._look_at(media, clip, errors)) as looks:
            while chunk := list(islice(looks, self.batch_size)):
                found += self._encode(chunk)
        return found

    def _look_at(self, media: Sequence[Any], clip: ClipOptions, errors: str) -> Generator[Seen, None, None]:
        """Media one by one, read ahead of their use, about a batch of them at most."""
        looks = self._looks(media, clip, errors)
        pending = sum(not isinstance(medium, (Encoded, Exception)) for medium in media)
        return ahead(looks, self.batch_size) if pending > 1 else looks

    def _looks(self, media: Sequence[Any], clip: ClipOptions, errors: str) -> Generator[Seen, None, None]:
        alive: weakref.WeakValueDictionary[int, Look] = weakref.WeakValueDictionary()
        for medium in media:
            if isinstance(medium, (Encoded, Exception)):
                if isinstance(medium, Encoded):
                    self._check_encoded(medium, clip)
                yield medium
                continue
            look = alive.get(id(medium))
            if look is None:
                look = tried(self._looker.look, errors, medium, clip, self.model)
                if isinstance(look, Look):
                    alive[id(medium)] = self._ready(look)
            yield look
            del look

    def _check_encoded(self, medium: Encoded, clip: ClipOptions) -> None:
        if medium.owner is not self._token:
            raise ValueError("this medium was encoded by another model: encode it again with the one that is asked")
        if clip.are_given:
            raise ValueError("the frames of an encoded clip are chosen: give num_frames and the like to encode")

    @torch.no_grad()
    def _encode(self, looks: Sequence[Seen]) -> list[Any]:
        """Run the vision part over what was not seen yet, about `batch_size` pictures or frames at once."""
        wanted = {id(look): look for look in looks if isinstance(look, Look) and look.features is None}
        for kind in (IMAGE, VIDEO):
            for chunk in _chunks([look for look in wanted.values() if look.kind == kind], self.batch_size):
                pixels = [upload(look.pixels, self.model.device) for look in chunk if look.pixels is not None]
                for look, features in zip(chunk, self._writer.family.see(self.model, pixels, kind)):
                    kept = self._reuse.keep_features(self.model, look.digest, features) if look.digest else features
                    look.features, look.pixels = kept, None
        return [self._encoded(look) if isinstance(look, Look) else look for look in looks]

    def _encoded(self, look: Look) -> Encoded:
        if look.encoded is None:
            assert look.features is not None  # the vision part has just run
            about = (look.image_size, self._token, look.kind, look.num_tokens, look.frames, look.digest)
            look.encoded = Encoded(look.features, *about)
        return look.encoded

    def _see_in_passing(self, frames: Frames, shrink: Shrink | None) -> Look:
        """Frames that are not kept: of a window of a long video."""
        return self._ready(Look.of(self._writer.family, frames, shrink, is_kept=False))

    def _ready(self, look: Look) -> Look:
        """A medium that the vision part can fetch, wherever it is."""
        if look.pixels is not None:
            look.pixels = pinned(look.pixels, self.model.device)
        return look


def tried(work: Callable[..., Any], errors: str, source: Any, *arguments: Any) -> Any:
    """What the work gives, or with errors="return" the error of a medium that cannot be read."""
    try:
        return work(source, *arguments)
    except (OnlookerError, OSError) as error:
        if errors == "raise":
            raise
        return error


def _chunks(looks: Sequence[Look], most: int) -> list[list[Look]]:
    """Media of one kind in groups of at most `most` frames; a clip of more is a group of its own."""
    groups: list[list[Look]] = []
    room = 0
    for look in looks:
        assert look.pixels is not None  # not seen yet
        frames = len(look.pixels) if look.pixels.dim() == 4 else 1
        if not groups or frames > room:
            groups.append([])
            room = most
        groups[-1].append(look)
        room -= frames
    return groups
