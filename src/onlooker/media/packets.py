"""The packet index of a video stream: which frames there are and where decoding can start, without decoding."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onlooker.errors import MediaError

if TYPE_CHECKING:
    import av

_MAX_REORDER = 64  # how far presentation order may be from decoding order; codecs allow 16 frames, fields double it


@dataclass
class PacketIndex:
    """Frames in presentation order, in units of the stream's time base."""

    pts: np.ndarray  # int64 [frames], rising when `regular`
    durations: np.ndarray  # int64 [frames], 0 where the file does not tell
    sizes: np.ndarray  # int64 [frames], bytes
    key_pts: np.ndarray  # int64 [keys], rising; hidden key frames (edit lists) count, decoding may have to start there
    key_dts: list[int | None]
    regular: bool  # every frame has a time of its own, in order: frames can be found by seeking
    packets: int  # hidden ones too: what a header's frame count is about
    is_cut: bool  # demuxing ended in an error, or in a packet that is marked as damaged


def index_packets(
    container: av.container.InputContainer, stream: av.VideoStream, name: str, max_frames: int | None
) -> PacketIndex:
    """Read every packet of a stream once and note its times.

    Frames that an edit list hides are left out, as are VP8's invisible reference frames.

    Raises:
        MediaError: there are more than `max_frames`.
    """
    import av

    pts, durations, sizes, keys = array("q"), array("q"), array("q"), []
    timed, packets, last_dts, is_cut = True, 0, None, False
    is_vp8 = stream.codec_context.name == "vp8"
    try:
        for packet in container.demux(stream):
            size = packet.size
            if not size:
                continue
            packets += 1
            if max_frames is not None and packets > max_frames:
                raise MediaError(
                    f"{name} has over {max_frames:,} frames; cut it into parts, or raise max_indexed_frames in limits"
                )
            stamp, dts = packet.pts, packet.dts
            is_cut = packet.is_corrupt
            if stamp is None or (dts is not None and last_dts is not None and dts < last_dts):
                timed = False
            last_dts = dts if dts is not None else last_dts
            if packet.is_keyframe and stamp is not None:
                keys.append((stamp, dts))
            if packet.is_discard or (is_vp8 and not memoryview(packet)[0] & 0x10):  # bit 4 of a VP8 frame: shown
                continue
            pts.append(stamp if stamp is not None else 0)
            durations.append(packet.duration or 0)
            sizes.append(size)
    except av.error.FFmpegError:
        is_cut = True
    return _in_presentation_order(pts, durations, sizes, keys, timed, packets, is_cut)


def _in_presentation_order(
    pts: array, durations: array, sizes: array, keys: list, timed: bool, packets: int, is_cut: bool
) -> PacketIndex:
    stamps = np.frombuffer(pts, np.int64) if pts else np.zeros(0, np.int64)
    lengths = np.frombuffer(durations, np.int64) if durations else np.zeros(0, np.int64)
    weights = np.frombuffer(sizes, np.int64) if sizes else np.zeros(0, np.int64)
    regular = timed and bool(keys) and len(stamps) > 0
    if regular:
        order = np.argsort(stamps, kind="stable")
        regular = bool(np.abs(order - np.arange(len(order))).max() <= _MAX_REORDER)
        in_order = stamps[order]
        if regular and not (np.diff(in_order) > 0).all():
            regular = False
        if regular:
            stamps, lengths, weights = in_order, lengths[order], weights[order]
    keys.sort(key=lambda key: key[0])
    key_pts = np.array([key[0] for key in keys], np.int64)
    if regular and key_pts[0] > stamps[0]:
        regular = False  # frames before the first key frame: only decoding tells which of them come out
    return PacketIndex(stamps, lengths, weights, key_pts, [key[1] for key in keys], regular, packets, is_cut)
