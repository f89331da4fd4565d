"""The limits that keep one hostile or mistaken video from taking the machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """What is refused, each with a message that names the limit.  Raise one with `VideoLimits(max_frames=256)`.

    None means no limit, for every field.
    """

    max_megapixels: float | None = 35.0  # one frame: 8K; a frame costs about 13 bytes a pixel while it is decoded
    max_side_ratio: float | None = 200.0  # longer side to shorter side
    max_frames: int | None = 64  # frames that come back, per call or per window
    max_indexed_frames: int | None = 2_000_000  # frames in the clip: 18 hours at 30 a second, 10 s to count
    max_seconds: float | None = 6 * 3600.0  # from the first frame to the last
    max_sequential_frames: int | None = 100_000  # frames decoded one by one, where a clip cannot be searched
    max_candidates: int | None = 256  # frames looked at by `scene` and by scoring functions
    max_bytes: int | None = 2**30  # downloads and file objects, which are held in memory; not files on disk

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value!r} is not above 0; None means no limit")
