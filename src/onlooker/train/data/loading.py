"""Loads the media of records, and goes on past those that cannot be read."""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onlooker.errors import MediaError
from onlooker.train.data.record import BadRow, Medium, Record, Records, TarMember

_MAX_TRIES = 64  # rows in a line that cannot be read; then something is wrong with all of them


def load_medium(medium: Medium, num_frames: int = 8, sampling: str = "uniform") -> Medium:
    """The same medium with its pixels as source: uint8 [h, w, 3], or [F, h, w, 3] of a clip.

    Raises:
        FileNotFoundError, MediaError, OSError, tarfile.TarError: it cannot be read.
    """
    source = medium.source.read() if isinstance(medium.source, TarMember) else medium.source
    if isinstance(source, np.ndarray):
        return medium
    from onlooker.media import load_image, load_video

    if medium.kind == "image":
        return Medium("image", load_image(source))
    return Medium("video", load_video(source, num_frames=num_frames, sampling=sampling).pixels)


def load_record(record: Record, num_frames: int = 8, sampling: str = "uniform") -> Record:
    """The record with the pixels of its media; raises what `load_medium` raises."""
    return replace(record, media=tuple(load_medium(medium, num_frames, sampling) for medium in record.media))


class LoadedRecords(Sequence[Record]):
    """Records whose media are loaded when a row is taken.

    A row whose media cannot be read is reported by a warning and in `bad`, and the next one stands in for it.

    Args:
        num_frames, sampling: of each clip, as for `onlooker.load_video`.
    """

    def __init__(self, records: Sequence[Record], num_frames: int = 8, sampling: str = "uniform") -> None:
        self.records, self.num_frames, self.sampling = records, num_frames, sampling
        self.name = records.name if isinstance(records, Records) else "records"
        self.bad: dict[int, BadRow] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        for step in range(min(_MAX_TRIES, len(self))):
            place = (index + step) % len(self)
            if place in self.bad:
                continue
            try:
                return load_record(self.records[place], self.num_frames, self.sampling)
            except (MediaError, OSError, tarfile.TarError) as error:
                self._skip(place, error)
        raise MediaError(
            f"{self.name}: no row from {index} on can be read, for instance: {self.bad[index % len(self)]}"
        )

    def _skip(self, place: int, error: BaseException) -> None:
        record = self.records[place]
        names = ", ".join(medium.name for medium in record.media)
        self.bad[place] = BadRow(f"{self.name} ({names})", record.id, str(error))
        warnings.warn(f"skipped {self.bad[place]}", stacklevel=3)
