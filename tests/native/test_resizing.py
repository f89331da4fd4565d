"""The compiled 8-bit resize gives the bytes of torch, whatever the sizes, strides and windows."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from torch import from_numpy
from torch.nn.functional import interpolate

from onlooker.native import build, resizing
from tests.native.test_surroundings import NO_MORE_MEMORY, run

needs_native = pytest.mark.skipif(not resizing.can_resize(), reason="no compiler, or no AVX512-VBMI and VNNI")
ASK = "from onlooker.native import resizing; print(resizing.can_resize())"


def by_torch(picture: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    planes = from_numpy(np.array(picture).transpose(2, 0, 1)[None])
    return interpolate(planes, size=(height, width), mode=mode, antialias=True)[0].permute(1, 2, 0).numpy()


def compiled(picture: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    found = resizing.resize(picture, height, width, mode, slice(0, height), slice(0, width))
    assert found is not None
    return found


def sides(rng: np.random.Generator, most: int) -> tuple[int, int]:
    return int(rng.integers(1, most + 1)), int(rng.integers(1, most + 1))


def random_picture(rng: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Noise, or nothing but black and white, where bicubic overshoots most."""
    picture = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return picture if rng.random() < 0.5 else picture // 128 * np.uint8(255)


@needs_native
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("most", [3, 40, 300])
def test_every_byte_is_that_of_torch(mode: str, channels: int, most: int) -> None:
    rng = np.random.default_rng(most + channels)
    for largest in (3, 40, 300):
        for _ in range(8):
            picture = random_picture(rng, *sides(rng, most), channels)
            height, width = sides(rng, largest)
            expected = by_torch(picture, height, width, mode)
            assert np.array_equal(compiled(picture, height, width, mode), expected), (picture.shape, height, width)


@needs_native
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1080, 1920), (224, 398)),
        ((1920, 1080), (224, 224)),
        ((100, 5000), (224, 224)),
        ((3000, 90), (7, 224)),
        ((224, 300), (224, 224)),
        ((300, 224), (224, 224)),
        ((224, 224), (224, 224)),
        ((1, 4000), (1, 3)),
        ((20, 3840), (9, 224)),
        ((20, 9000), (9, 100)),
        ((17, 64), (272, 1024)),
    ],
)
def test_sizes_that_are_met(mode: str, given: tuple[int, int], wanted: tuple[int, int]) -> None:
    picture = random_picture(np.random.default_rng(0), *given, 3)
    assert np.array_equal(compiled(picture, *wanted, mode), by_torch(picture, *wanted, mode))


@needs_native
def test_a_window_is_cut_out_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        picture = random_picture(rng, *sides(rng, 200), int(rng.integers(1, 5)))
        height, width = sides(rng, 120)
        top, left = int(rng.integers(height)), int(rng.integers(width))
        window = slice(top, int(rng.integers(top, height)) + 1), slice(left, int(rng.integers(left, width)) + 1)
        found = resizing.resize(picture, height, width, "bicubic", *window)
        assert found is not None
        assert np.array_equal(found, by_torch(picture, height, width, "bicubic")[window])


@needs_native
def test_strides_do_not_matter_and_nothing_outside_is_read_into_the_result() -> None:
    rng = np.random.default_rng(2)
    whole = random_picture(rng, 90, 110, 4)
    views = {
        "part": whole[7:60, 9:81, :3],
        "part of the channels' pixels": whole[:, :, 1:2],
        "rows apart": whole[3:70:3, 5:50],
        "upside down": whole[::-1],
        "mirrored": whole[:, ::-1],
        "colours turned around": whole[:, :, 2::-1],
        "turned": whole.transpose(1, 0, 2),
        "one row for all": np.broadcast_to(whole[:1], (50, 110, 4)),
        "the last pixels": whole[-1:, -1:],
    }
    for name, view in views.items():
        view.setflags(write=False)
        assert np.array_equal(compiled(view, 31, 47, "bicubic"), by_torch(view, 31, 47, "bicubic")), name


@needs_native
def test_values_are_looked_up_for_every_channel() -> None:
    rng = np.random.default_rng(4)
    for view in (
        random_picture(rng, 9, 13, 3),
        random_picture(rng, 30, 31, 5)[::-2, 3:],
        np.zeros((1, 1, 1), np.uint8),
    ):
        table = rng.normal(size=(view.shape[2], 256)).astype(np.float32)
        out = np.empty((view.shape[2], *view.shape[:2]), np.float32)
        assert resizing.look_up(view, table, out)
        assert np.array_equal(out, np.stack([row[view[:, :, c]] for c, row in enumerate(table)]))


@needs_native
def test_several_threads_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(3)
    pictures = [random_picture(rng, 120 + 40 * k, 200 + 30 * k, 3) for k in range(4)]
    expected = [by_torch(picture, 50, 70, "bicubic") for picture in pictures]
    wrong: list[int] = []

    def work(k: int) -> None:
        wrong.extend(k for _ in range(50) if not np.array_equal(compiled(pictures[k], 50, 70, "bicubic"), expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_native
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5, 0)])
def test_a_picture_without_pixels_is_left_to_torch(shape: tuple[int, int, int]) -> None:
    assert resizing.resize(np.zeros(shape, np.uint8), 4, 4, "bicubic", slice(0, 4), slice(0, 4)) is None


@needs_native
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_memory_that_is_not_there_ends_nothing() -> None:
    code = f"""{NO_MORE_MEMORY}
import numpy as np
from onlooker.native import resizing
print(resizing.can_resize())
picture, wide = np.zeros((1, 9, 1), np.uint8), 1 << 20
no_more_memory(8 << 20)
print(resizing.resize(picture, 1, wide, "bicubic", slice(0, 1), slice(0, wide)) is None)
"""
    assert run(code) == "True\nTrue"


def test_it_can_be_switched_off() -> None:
    assert run(ASK, ONLOOKER_NATIVE="0") == "False"


def test_without_a_compiler_there_is_no_noise(tmp_path: Path) -> None:
    assert run(ASK, PATH=str(tmp_path), CXX="", XDG_CACHE_HOME=str(tmp_path)) == "False"


def test_sources_are_part_of_the_package() -> None:
    """They lie beside the modules, which is all that a wheel needs here: test_embedded looks into one."""
    folder = Path(build.__file__).parent
    assert {"linear.cpp", "resize.cpp"} <= {path.name for path in folder.iterdir()}


@pytest.mark.skipif(build.find_compiler() is None, reason="no compiler")
def test_every_source_is_a_library_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    libraries = [build.build(name) for name in ("linear", "resize")]
    assert None not in libraries and len(set(libraries)) == 2
