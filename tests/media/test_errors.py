"""What cannot be read is refused with one line that says what came and what to do."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlooker.errors import MediaError
from onlooker.media import load_image, open_image

MEDIA = Path(__file__).parents[1] / "data" / "media"


def png_header(width: int, height: int) -> bytes:
    """A 1-bit PNG that declares a size; a decoder that trusts it would take the memory for it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def refusal(source, **options) -> str:
    texts = set()
    for read in (load_image, open_image):
        with pytest.raises(MediaError) as caught:
            read(source, **options)
        texts.add(str(caught.value))
    assert len(texts) == 1
    text = texts.pop()
    assert "\n" not in text
    return text


def test_a_missing_file_is_a_file_not_found_error():
    with pytest.raises(FileNotFoundError, match=r"^no such file: nowhere/photo\.jpg$"):
        load_image("nowhere/photo.jpg")


@pytest.mark.parametrize("name", ["a" * 5000, "zero\0byte.jpg", "line\nbreak.jpg"])
def test_text_that_cannot_be_a_path_is_a_file_not_found_error(name):
    with pytest.raises(FileNotFoundError, match="^no such file: ") as caught:
        load_image(name)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_directory_is_refused(tmp_path):
    assert refusal(tmp_path).endswith("is a directory; give a file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png").endswith("is not a regular file")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png").endswith("empty.png is empty (0 bytes)")
    assert "is empty (0 bytes)" in refusal(b"")


def test_text_named_jpg_is_refused():
    assert refusal(MEDIA / "not_an_image.jpg").startswith("cannot identify image file ")
    assert refusal(MEDIA / "videos" / "one_frame.mp4").endswith("(frames of a video come from load_video)")


def test_cut_files_are_refused(tmp_path):
    assert refusal(MEDIA / "truncated_400b.jpg").endswith("image is cut short")
    photo = (MEDIA / "elephant.jpg").read_bytes()
    assert refusal(photo[: len(photo) // 2]).endswith("image is cut short")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(30000, 30000))
    assert "bomb.png: 900 megapixels is over the limit of 89 (30000x30000)" in refusal(tmp_path / "bomb.png")
    assert "100 megapixels is over the limit" in refusal(png_header(10000, 10000))  # where Pillow would only warn


def test_the_size_limit_is_adjustable_both_ways():
    with pytest.raises(MediaError, match="is cut short|is damaged"):  # past the limit, it turns out to hold nothing
        load_image(png_header(30000, 10000), max_megapixels=None)
    assert "0.3168 megapixels is over the limit of 0.1" in refusal(MEDIA / "elephant.jpg", max_megapixels=0.1)
    with pytest.raises(MediaError, match="over the limit of 0.1"):
        load_image(np.zeros((480, 660), np.uint8), max_megapixels=0.1)


def test_pillows_own_limit_is_left_as_it_was(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12345)
    refusal(png_header(30000, 30000))
    load_image(MEDIA / "palette.png")
    assert Image.MAX_IMAGE_PIXELS == 12345


def test_very_narrow_pictures_are_refused_unless_asked_for():
    buffer = io.BytesIO()
    Image.new("RGB", (6000, 24), "red").save(buffer, "PNG")
    assert "6000x24 is 250:1, over the limit of 200:1" in refusal(buffer.getvalue())
    assert load_image(buffer.getvalue(), max_side_ratio=None).shape == (24, 6000, 3)
    assert open_image(buffer.getvalue(), max_side_ratio=300).size == (6000, 24)
    with pytest.raises(MediaError, match="250:1"):
        load_image(Image.new("L", (24, 6000)))


def test_heic_without_pillow_heif_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert refusal(MEDIA / "pug.heic").endswith("is HEIC: install pillow-heif (pip install pillow-heif)")


def test_formats_that_run_other_programs_are_not_opened():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert refusal(postscript).startswith("cannot identify image file")


def test_damaged_files_never_raise_anything_else():
    rng = np.random.default_rng(0)
    names = ["gray.jpg", "la8.png", "palette_trns.png", "hopper.webp", "animated.avif", "animated_transparent.gif"]
    for name in names:
        for _ in range(40):
            data = bytearray((MEDIA / name).read_bytes())
            for position in rng.integers(0, len(data), 20):
                data[position] = rng.integers(256)
            try:
                load_image(bytes(data[: rng.integers(1, len(data) + 1)]), max_megapixels=20)
            except MediaError as error:
                assert "\n" not in str(error)
            except UserWarning:  # Pillow's notice of broken EXIF; an error only in this test run
                pass


@pytest.mark.parametrize("source", [None, 3, 2.5, {"a": 1}, object()])
def test_other_kinds_are_a_type_error(source):
    with pytest.raises(TypeError, match="not a media source"):
        load_image(source)
