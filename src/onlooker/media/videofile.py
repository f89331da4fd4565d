"""A video file as a clip: exact frames by seeking to the key frame before each, or by decoding from the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onlooker.errors import MediaError
from onlooker.media.clip import Clip, FramesLost
from onlooker.media.container import average_rate, ends_early, open_container, pick_stream, pixel_aspect
from onlooker.media.limits import VideoLimits
from onlooker.media.packets import PacketIndex, index_packets
from onlooker.media.picture import stretch, turn
from onlooker.media.source import Source

if TYPE_CHECKING:
    import av

_DECODE_ON = 3  # frames: a key frame that is this close ahead is reached faster by decoding on than by seeking


class VideoFile(Clip):
    """One video stream of a container file, read with PyAV.

    Until something proves the packet index wrong, frames are numbered by it and found by seeking.  Files without
    usable times, and damaged ones, are decoded from the start instead, and numbered as they come out.

    Args:
        stream: which of the video streams, from 0; cover pictures do not count.
        square_pixels: stretch frames whose pixels are not square to the shape in which they are meant to be seen.
        threads: decoder threads; 0 for one per core.

    Raises:
        MediaError: not a video, no video stream, or over a limit.
    """

    may_change_size = True

    def __init__(
        self, source: Source, limits: VideoLimits, *, stream: int = 0, square_pixels: bool = True, threads: int = 0
    ) -> None:
        self.name = source.name
        self.limits = limits
        self.notes: list[str] = []
        self._source, self._number, self._threads = source, stream, threads
        self._sequential: Iterator[Any] | None = None
        self._position = 0
        self._is_prepared = False
        self._open()
        try:
            self.aspect = pixel_aspect(self.stream) if square_pixels else 1.0
            self.codec = str(self.stream.codec_context.name)
            self.check_picture(self.stream.codec_context.width, self.stream.codec_context.height)
            self._use_index(index_packets(self.container, self.stream, self.name, limits.max_indexed_frames))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._sequential = None
        self.container.close()

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        if not indices:
            return
        if not self.is_seekable:
            yield from self._read_sequentially(indices)
            return
        for key, group in self._groups(indices):
            yield from self._read_group(key, group)

    def prepare(self) -> None:
        if self._is_prepared:
            return
        self._is_prepared = True
        if not self.is_seekable:
            self._count_by_decoding()
        elif self._index.is_cut or self._index.packets < self.declared:
            self._cut_tail()

    def repair(self) -> None:
        if not self.is_seekable:
            super().repair()
        self._count_by_decoding()

    def first_frame(self) -> av.VideoFrame:
        """Decode one frame, for what only frames tell.

        Raises:
            MediaError: none comes out.
        """
        self._reopen()
        try:
            for frame in self._decode():
                return frame
        except FramesLost:
            pass
        raise self._nothing()

    def _nothing(self) -> MediaError:
        return MediaError(
            f"{self.name}: no frame could be decoded; it is damaged, or its codec ({self.codec}) is not supported"
        )

    # -- index ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.container = open_container(self._source)
        try:
            self.stream = pick_stream(self.container, self.name, self._number)
            self.stream.thread_type = "AUTO"
            if self._threads:
                self.stream.codec_context.thread_count = self._threads
        except BaseException:
            self.container.close()
            raise

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _use_index(self, index: PacketIndex) -> None:
        if not index.packets:
            raise self._nothing()
        self._index = index
        self.is_seekable = index.regular
        self.declared = self.stream.frames  # by the header; 0 in many formats
        self.count = len(index.pts)
        self.sizes = index.sizes
        self._set_times(index.pts if index.regular else None, int(index.durations[-1]) if self.count else 0)
        self.keys = np.unique(np.searchsorted(index.pts, index.key_pts)) if index.regular else np.zeros(1, np.int64)
        self.keys = self.keys[self.keys < max(self.count, 1)]
        most = self.limits.max_seconds
        if most is not None and self.duration is not None and self.duration > most:
            raise MediaError(
                f"{self.name}: {self.duration:.0f} seconds are over the limit of {most:g}; cut it into parts, or raise "
                f"max_seconds in limits"
            )
        if index.packets < self.declared:
            self._note_damage(index.packets, self.declared, "there")
        elif index.regular and not index.is_cut:
            promised = ends_early(self.container, self.stream, self.duration)
            if promised:
                self.notes.append(f"{self.name}: damaged, it ends after {self.duration:.2f} s of {promised:.2f} s")

    def _set_times(self, pts: np.ndarray | None, last_duration: int) -> None:
        """Times from time stamps; without usable ones, from the rate that the stream claims."""
        rate = average_rate(self.stream, has_times=pts is not None)
        unit = float(self.stream.time_base) if self.stream.time_base else 0.0
        if pts is not None and len(pts) and unit:
            self.times = (pts - pts[0]) * unit
            step = last_duration * unit or (1 / rate if rate else 0.0)
            self.duration = float(self.times[-1]) + step
            measured = len(pts) / self.duration if self.duration and len(pts) > 1 else None
            # A rate guessed from the first frames of a variable-rate file can be far off.
            self.fps = measured if measured and (not rate or abs(rate / measured - 1) > 0.02) else rate
            return
        self.fps = rate
        self.times = np.arange(self.count) / rate if rate else None
        self.duration = self.count / rate if rate else None

    def _cut_tail(self) -> None:
        """Decode from the last key frame on and drop from the index what does not come out."""
        index = self._index
        start = int(np.searchsorted(index.pts, index.key_pts[-1]))
        came: set[int | None] = set()
        try:
            for frame in self._decode(self._packets_from(len(index.key_pts) - 1)):
                came.add(frame.pts)
        except FramesLost:
            pass
        kept = start
        while kept < len(index.pts) and int(index.pts[kept]) in came:
            kept += 1
        if kept == 0 or not len(index.pts):
            self._count_by_decoding()
            return
        wanted = self.declared - (index.packets - len(index.pts)) if self.declared else len(index.pts)
        if kept < max(wanted, len(index.pts)):
            self._note_damage(kept, max(wanted, len(index.pts)))
        self.count = kept
        self.sizes = index.sizes[:kept]
        self.keys = self.keys[self.keys < kept]
        self._set_times(index.pts[:kept], int(index.durations[kept - 1]))

    def _count_by_decoding(self) -> None:
        """Decode everything once, keep nothing but times."""
        limit = self.limits.max_sequential_frames
        stamps: list[int | None] = []
        keys: list[int] = []
        is_damaged = False
        self._reopen()
        try:
            for frame in self._decode():
                if frame.key_frame:
                    keys.append(len(stamps))
                stamps.append(frame.pts)
                if limit is not None and len(stamps) > limit:
                    raise MediaError(
                        f"{self.name} has to be decoded from its start, and has over {limit:,} frames; convert it to "
                        "mp4 (ffmpeg -i IN OUT.mp4), or raise max_sequential_frames in limits"
                    )
        except FramesLost:
            is_damaged = True
        if not stamps:
            raise self._nothing()
        hidden = self._index.packets - len(self._index.pts)
        wanted = max(self.declared - hidden, len(self._index.pts))
        if is_damaged or len(stamps) < wanted:
            self._note_damage(len(stamps), wanted)
        self.is_seekable, self.count, self.sizes = False, len(stamps), None
        self.keys = np.array(keys or [0], np.int64)
        pts = None if None in stamps else np.array(stamps, np.int64)
        is_rising = pts is not None and bool((np.diff(pts) > 0).all())
        self._set_times(pts if is_rising else None, 0)
        if not is_rising:
            self.notes.append(f"{self.name} has no usable time stamps; times follow from {self.fps or 0:.4g} frames/s")
        self._reopen()

    def _note_damage(self, decoded: int, wanted: int, what: str = "decoded") -> None:
        self.notes = [note for note in self.notes if ": damaged, " not in note]
        self.notes.append(f"{self.name}: damaged, {decoded} of {wanted} frames {what}")

    # -- reading ----------------------------------------------------------------------------------------------------

    def _groups(self, indices: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """(key frame to start from, frames to decode in one go): shared stretches are decoded once."""
        index = self._index
        groups: list[tuple[int, list[int]]] = []
        starts = np.searchsorted(index.key_pts, index.pts[list(indices)], side="right") - 1
        key_frames = np.searchsorted(index.pts, index.key_pts[starts])
        last_key = None
        for number, key, key_frame in zip(indices, starts.tolist(), key_frames.tolist()):
            if groups and (key == last_key or key_frame - groups[-1][1][-1] <= _DECODE_ON):
                groups[-1][1].append(number)
            else:
                groups.append((key, [number]))
            last_key = key
        yield from groups

    def _read_group(self, key: int, numbers: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        number_of = {int(self._index.pts[number]): number for number in numbers}
        waiting = list(numbers)
        for frame in self._decode(self._packets_from(key), set(number_of)):
            number = number_of.get(frame.pts) if frame.pts is not None else None
            if number is None:
                continue
            if not waiting or number != waiting[0] or frame.is_corrupt:  # out of order, or built on missing frames
                raise FramesLost
            waiting.pop(0)
            yield number, self._picture(frame)
            if not waiting:
                return
        raise FramesLost

    def _read_sequentially(self, indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in indices:
            if self._sequential is None or self._position > number:
                self._reopen()
                self._sequential, self._position = self._decode(), 0
            while True:
                frame = next(self._sequential, None)
                if frame is None:
                    raise FramesLost
                self._position += 1
                if self._position > number:
                    break
            yield number, self._picture(frame)

    def _packets_from(self, key: int) -> Iterator[av.Packet]:
        """Packets from a key frame on.

        mp4 lands exactly on presentation times and one key frame early on decoding times; MPEG-TS lands behind the key
        frame on presentation times; Matroska has no decoding times.  So both are tried, then earlier key frames.
        """
        import av

        index = self._index
        for number in range(key, max(-1, key - 4), -1):
            pts, dts = int(index.key_pts[number]), index.key_dts[number]
            for stamp in (pts, dts):
                if stamp is None:
                    continue
                try:
                    self.container.seek(stamp, stream=self.stream)
                    packets = self.container.demux(self.stream)
                    first = next((packet for packet in packets if packet.size), None)
                except av.error.FFmpegError:
                    continue
                if first is not None and first.is_keyframe and first.pts is not None and first.pts <= pts:
                    return _put_back(first, packets)
        raise FramesLost

    def _decode(
        self, packets: Iterator[av.Packet] | None = None, wanted: set[int] | None = None
    ) -> Iterator[av.VideoFrame]:
        """Decode packets; with `wanted` (time stamps), other frames may be left out, and the end comes after them.

        Frames that nothing refers to are skipped unless wanted, which changes no other frame.
        """
        import av

        context = self.stream.codec_context
        context.skip_frame = "DEFAULT"
        missing = set(wanted) if wanted is not None else None
        try:
            for packet in self.container.demux(self.stream) if packets is None else packets:
                if missing is not None and wanted is not None and packet.size:
                    context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                    missing.discard(packet.pts)
                yield from packet.decode()
                if missing is not None and not missing:
                    # Everything needed is in the decoder: have it out without feeding frames that nobody reads.
                    context.skip_frame = "DEFAULT"
                    yield from context.decode(None)
                    return
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            raise FramesLost from error

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        self.check_picture(frame.width, frame.height)
        rgb = frame.to_ndarray(format="rgb24")
        if self.aspect != 1.0:
            rgb = stretch(rgb, self.aspect)
        return turn(rgb, frame.rotation)


def _put_back(first: av.Packet, rest: Iterator[av.Packet]) -> Iterator[av.Packet]:
    yield first
    yield from rest
