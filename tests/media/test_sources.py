"""A picture may come as a path, URL, bytes, file object or array, and is the same picture each time."""

from __future__ import annotations

import base64
import io
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media import load_image, open_image
from onlooker.media.source import find_source

MEDIA = Path(__file__).parents[1] / "data" / "media"
PALETTE = (MEDIA / "palette.png").read_bytes()


class Handler(BaseHTTPRequestHandler):
    """Serves the palette picture, well and badly."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/palette.png")
            self.end_headers()
            return
        if path == "/gone.png":
            self.send_error(404)
            return
        self.send_response(200)
        declared = {"/cut.png": len(PALETTE) + 500, "/huge.png": 2**40}.get(path, len(PALETTE))
        if path != "/undeclared.png":
            self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(PALETTE)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=partial(http.serve_forever, poll_interval=0.02), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture
def picture() -> np.ndarray:
    with Image.open(MEDIA / "palette.png") as image:
        return np.asarray(image.convert("RGB"))


def test_every_local_source_gives_the_same_picture(picture):
    path = MEDIA / "palette.png"
    base64_url = "data:image/png;base64," + base64.b64encode(PALETTE).decode()
    sources = [path, str(path), PALETTE, bytearray(PALETTE), memoryview(PALETTE), io.BytesIO(PALETTE), base64_url]
    sources += ["data:image/png," + quote(PALETTE), Image.open(path), picture, torch.from_numpy(picture.copy())]
    for source in sources:
        assert (load_image(source) == picture).all()
    with path.open("rb") as file:
        assert (load_image(file) == picture).all()


def test_urls_are_downloaded(server, picture):
    for path in ("/palette.png", "/palette.png?key=secret", "/moved", "/undeclared.png", "/a b/ü.png"):
        assert (load_image(server + path) == picture).all()
    assert (np.asarray(open_image(server + "/palette.png")) == picture).all()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/gone.png?key=secret", "the server answered 404"),
        ("/cut.png", "cut off, 1019 of 1519 bytes"),
        ("/huge.png", "MiB"),
    ],
)
def test_failed_downloads_say_why_and_hide_the_query(server, path, text):
    with pytest.raises(MediaError) as caught:
        load_image(server + path)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_media_error():
    with pytest.raises(MediaError, match=r"http://127\.0\.0\.1:9/x\.png could not be downloaded: .*refused"):
        load_image("http://user:secret@127.0.0.1:9/x.png".replace("user:secret@", ""))


def test_a_password_in_a_url_is_not_shown():
    with pytest.raises(MediaError) as caught:
        load_image("http://user:secret@127.0.0.1:9/x.png")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/x.png", "file:///etc/passwd", "s3://bucket/x.png"])
def test_other_schemes_are_refused(url):
    with pytest.raises(MediaError, match="only http, https and data URLs"):
        load_image(url)


def test_broken_base64_is_a_media_error():
    with pytest.raises(MediaError, match="not valid base64"):
        load_image("data:image/png;base64,@@@@")


def test_a_text_file_object_says_how_to_open_it():
    with pytest.raises(TypeError, match="binary mode"):
        load_image(io.StringIO("text"))


def test_what_is_read_into_memory_has_a_limit():
    for source in (PALETTE, io.BytesIO(PALETTE), "data:," + "x" * 500):
        with pytest.raises(MediaError, match="over the limit"):
            find_source(source, max_bytes=100)


def test_a_file_on_disk_is_not_read_to_be_found():
    found = find_source(MEDIA / "palette.png", max_bytes=100)
    assert found.path is not None and found.path.is_absolute() and found.data is None
    with found.open() as file:
        assert file.read() == PALETTE
