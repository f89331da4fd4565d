"""Finds out where the bytes of a picture or a video are: in a file, in memory, or behind a URL."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from onlooker.errors import MediaError

MAX_SOURCE_BYTES = 2**30  # what is read into memory at most: downloads, file objects, data: URLs
_CHUNK_BYTES = 2**18
_MAX_NAME = 160  # a URL or a pasted string can be as long as a picture; messages stay on one line


@dataclass(frozen=True)
class Source:
    """Bytes that somebody handed over: a regular file, or bytes in memory. Never both, never empty."""

    name: str  # what messages call it
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def open(self) -> BinaryIO:
        """A seekable binary file; the caller closes it.

        Raises:
            MediaError: the file may not be read.
        """
        if self.path is None:
            return io.BytesIO(self.data or b"")
        try:
            return self.path.open("rb")
        except OSError as error:
            raise MediaError(f"{self.name} cannot be read: {error.strerror}") from error


def find_source(source: Any, *, max_bytes: int = MAX_SOURCE_BYTES, timeout: float = 30.0) -> Source:
    """Say where the bytes of `source` are, and fetch them when they are not on this machine.

    Args:
        source: path (str or os.PathLike), http(s) URL, data: URL, bytes-like object, or binary file object,
            which is read from where it stands.
        max_bytes: more than this is refused where it would be held in memory; files on disk may be larger.
        timeout: seconds without an answer after which a download is given up.

    Raises:
        FileNotFoundError: there is no such file.
        MediaError: a directory, a device, nothing in it, too large, or the download failed.
        TypeError: `source` is of none of these kinds.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _in_memory(f"data of {len(source)} bytes", bytes(source), max_bytes)
    if isinstance(source, str):
        if source.lower().startswith(("http://", "https://")):
            return _in_memory(url_name(source), _download(source, max_bytes, timeout), max_bytes)
        if source.lower().startswith("data:") and "," in source:
            return _in_memory("data: URL", _decode_data_url(source, max_bytes), max_bytes)
    if isinstance(source, (str, os.PathLike)):
        return _on_disk(os.fspath(source))
    if hasattr(source, "read"):
        return _from_file_object(source, max_bytes)
    raise TypeError(f"{type(source).__name__} is not a media source; give a path, a URL, bytes or a binary file object")


def shorten(name: str) -> str:
    """A name fit for a one-line message: no control characters, not longer than a line or two."""
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 20]}...{name[-17:]}"


def url_name(url: str) -> str:
    """A URL without what may be secret: password and query."""
    parts = urllib.parse.urlsplit(url)
    return shorten(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _in_memory(name: str, data: bytes, max_bytes: int) -> Source:
    if not data:
        raise MediaError(f"{name} is empty (0 bytes)")
    if len(data) > max_bytes:
        raise MediaError(_too_large(name, max_bytes))
    return Source(name, data=data)


def _too_large(name: str, max_bytes: int) -> str:
    return f"{name} is over the limit of {max_bytes / 2**20:.4g} MiB; save it to a file, or shrink it"


def _on_disk(path: str | bytes) -> Source:
    text = os.fsdecode(path)
    name = shorten(text)
    file = Path(text)
    try:
        exists = file.exists()
    except (OSError, ValueError):  # longer than a path can be, or a zero byte inside: not the name of a file
        exists = False
    if not exists:
        scheme, colon, _ = text.partition("://")
        if colon and len(scheme) > 1 and scheme.isalnum():
            raise MediaError(f"{name}: only http, https and data URLs can be read, not {scheme}")
        raise FileNotFoundError(f"no such file: {name}")
    if file.is_dir():
        raise MediaError(f"{name} is a directory; give a file")
    if not file.is_file():
        raise MediaError(f"{name} is not a regular file")
    if file.stat().st_size == 0:
        raise MediaError(f"{name} is empty (0 bytes)")
    return Source(name, path=file.absolute())


def _from_file_object(file: Any, max_bytes: int) -> Source:
    label = getattr(file, "name", None)
    name = shorten(label) if isinstance(label, str) and label else "file object"
    data = file.read(max_bytes + 1)
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"{name} gives {type(data).__name__} when read; open it in binary mode ('rb')")
    return _in_memory(name, bytes(data), max_bytes)


def _decode_data_url(url: str, max_bytes: int) -> bytes:
    header, _, payload = url.partition(",")
    if len(payload) > 2 * max_bytes + 4:  # before decoding doubles it; percent signs and base64 only shrink
        raise MediaError(_too_large("data: URL", max_bytes))
    data = urllib.parse.unquote_to_bytes(payload)
    if not header.lower().rstrip().endswith(";base64"):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error as error:
        raise MediaError(f"data: URL is not valid base64: {error}") from error


def _download(url: str, max_bytes: int, timeout: float) -> bytes:
    name = url_name(url)
    # Some hosts refuse Python's own name; a URL typed by hand may hold blanks or accents.
    quoted = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    try:
        request = urllib.request.Request(quoted, headers={"User-Agent": "onlooker"})
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return _read_reply(reply, name, max_bytes, deadline=time.monotonic() + 20 * timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise MediaError(f"{name}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise MediaError(f"{name} could not be downloaded: {reason}") from error


def _read_reply(reply: http.client.HTTPResponse, name: str, max_bytes: int, deadline: float) -> bytes:
    declared = reply.headers.get("Content-Length", "")
    expected = int(declared) if declared.isdigit() else None
    if expected is not None and expected > max_bytes:
        raise MediaError(_too_large(name, max_bytes))
    data = bytearray()
    while chunk := reply.read1(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise MediaError(_too_large(name, max_bytes))
        if time.monotonic() > deadline:  # a server that drips bytes never runs into the socket's own timeout
            raise MediaError(f"{name} came too slowly: {len(data)} bytes so far; download it to a file first")
    if expected is not None and len(data) < expected:
        raise MediaError(f"{name}: the download was cut off, {len(data)} of {expected} bytes came")
    return bytes(data)
