"""Opens container files safely, and reads what their headers say."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from onlooker.errors import MediaError
from onlooker.media.source import Source

if TYPE_CHECKING:
    import av

# Playlists (hls, concat and the like) would make one file read others, over the network too: formats are named.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,gif,h264,hevc,flv,asf,ogg,mpeg,mpegvideo,m4v,ivf,mxf,"
    "mp3,wav,flac,aac"  # so that the message can say that there is only sound
)
_SQUARE = 0.01  # a shape this close to square is the rounding of an encoder


def open_container(source: Source) -> av.container.InputContainer:
    """Open a file or bytes with PyAV; the caller closes it.

    PyAV's logging is never switched on here or elsewhere: its callback can deadlock with the decoder's threads.

    Raises:
        MediaError: it is not a video in a format that we read.
    """
    import av

    options = {"format_whitelist": _FORMATS}
    place: Any
    if source.path is not None:
        # As an absolute URL, so that no name is taken for a protocol (12:30.mp4) or for a pattern (a%03d.png).
        place = f"file:{source.path}"
        options["protocol_whitelist"] = "file"
        source.open().close()  # says why a file may not be read; PyAV does not
    else:
        place = io.BytesIO(source.data or b"")
    try:
        return av.open(place, options=options, metadata_errors="ignore")
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, av.error.ArgumentError):
            reason = "playlists and rare formats are not opened"
        raise MediaError(f"cannot read {source.name} as a video: damaged or not a video ({reason})") from error


def pick_stream(container: av.container.InputContainer, name: str, number: int) -> av.VideoStream:
    """The `number`th video stream that is not a cover picture.

    Raises:
        MediaError: there is no such stream, or no decoder for it.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        only = "only audio" if container.streams.audio else "nothing to see"
        raise MediaError(f"{name} has no video stream ({only})")
    if not 0 <= number < len(streams):
        raise MediaError(f"{name} has {len(streams)} video stream(s), numbered from 0; there is no stream {number}")
    stream = streams[number]
    if stream.codec_context is None:
        raise MediaError(f"{name}: no decoder for its video is in this build of PyAV; convert it to mp4 (h264)")
    return stream


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(int(stream.disposition) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width of a pixel over its height; 1.0 where it is unknown, nearly square or absurd."""
    shape = stream.sample_aspect_ratio
    aspect = float(shape) if shape else 1.0
    return aspect if 0.1 <= aspect <= 10 and abs(aspect - 1) > _SQUARE else 1.0


def average_rate(stream: av.VideoStream, has_times: bool) -> float | None:
    """Frames per second as the header has it; None where it has nothing sensible."""
    # Without time stamps, the average is the demuxer's own invention (25), the guess comes from the codec.
    rates = (stream.average_rate, stream.guessed_rate) if has_times else (stream.guessed_rate, stream.average_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), None)


def ends_early(container: av.container.InputContainer, stream: av.VideoStream, duration: float | None) -> float | None:
    """The length that the header promises, in seconds, where the frames end well before and nothing else goes on.

    A cut Matroska file shows no other sign of being cut.
    """
    import av

    if stream.duration is not None or container.duration is None or duration is None:
        return None
    promised = container.duration / 1e6
    if duration > 0.9 * promised - 0.5:
        return None
    last = 0.0
    try:
        container.seek(0)
        for packet in container.demux():
            if packet.size and packet.pts is not None and packet.time_base:
                last = max(last, float(packet.pts * packet.time_base))
    except av.error.FFmpegError:
        pass
    return promised if last < 0.9 * promised - 0.5 else None
