"""Processes, threads, memory, compilers: what is around the compiled code changes no result and ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from onlooker.native import build, library, products
from onlooker.native.attention import attention

needs_bf16 = pytest.mark.skipif(not library.has_bf16(), reason="no compiler, or no AVX512-BF16")
needs_vnni = pytest.mark.skipif(not library.has_integers(), reason="no compiler, or no AVX512-VNNI")


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


ASK = "from onlooker.native import library; print(library.features())"


NO_MORE_MEMORY = """
import re, resource
from pathlib import Path
def no_more_memory(room=1 << 20):
    size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
"""


@needs_bf16
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_threads_that_cannot_be_had_are_done_without() -> None:
    code = f"""{NO_MORE_MEMORY}
import torch
from onlooker.native import library, products
assert library.has_bf16()
torch.set_num_threads(1)
x, weight = torch.randn(3, 64).bfloat16(), torch.randn(500, 64).bfloat16()
one = products.bf16(x, weight, None)
torch.set_num_threads(5)
no_more_memory()
print(torch.equal(products.bf16(x, weight, None), one))
"""
    assert run(code) == "True"


@needs_bf16
@needs_vnni
def test_another_default_device_changes_nothing() -> None:
    x, weight, codes = (
        torch.randn(3, 128),
        torch.randn(8, 128).bfloat16(),
        torch.randint(-9, 9, (8, 128)).to(torch.int8),
    )
    scale, packed = torch.ones(8, 2).bfloat16(), torch.randint(0, 255, (8, 64), dtype=torch.uint8)
    q = torch.randn(1, 2, 3, 16).bfloat16()

    def everything() -> list[torch.Tensor | None]:
        return [
            products.bf16(x.bfloat16(), weight, None),
            products.int8(x, codes, scale, None),
            products.int4(x, packed, scale, scale, None, 64),
            attention(q, q, q, None, 1.0),
        ]

    expected = everything()
    with torch.device("meta"):
        found = everything()
    assert all(one is not None and other is not None and torch.equal(one, other) for one, other in zip(found, expected))


@needs_bf16
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_multiplies_too() -> None:
    x, weight = torch.randn(3, 64).bfloat16(), torch.randn(500, 64).bfloat16()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        one = products.bf16(x, weight, None)
        child = os.fork()
        if not child:
            os._exit(not torch.equal(products.bf16(x, weight, None), one))
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(before)


@needs_bf16
@needs_vnni
def test_several_python_threads_multiply_at_once() -> None:
    x, weight = torch.randn(4, 256), torch.randint(-127, 127, (1003, 256), dtype=torch.int8)
    scale, q, before = torch.rand(1003, 4).bfloat16(), torch.randn(2, 4, 30, 64).bfloat16(), torch.get_num_threads()
    wanted, attended, wrong = products.int8(x, weight, scale, None), attention(q, q, q, None, 0.1), []
    assert wanted is not None

    def work() -> None:
        torch.set_num_threads(3)
        for _ in range(50):
            found = products.int8(x, weight, scale, None)
            wrong.append(found is None or not torch.equal(found, wanted))
            wrong.append(not torch.equal(attention(q, q, q, None, 0.1), attended))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(before)
    assert len(wrong) == 400 and not any(wrong)


def test_it_can_be_switched_off() -> None:
    assert run(ASK, ONLOOKER_NATIVE="0") == "0"
    with library.disabled():
        assert not library.has_bf16() and not library.has_integers()


def test_without_a_compiler_there_is_no_noise(tmp_path: Path) -> None:
    assert run(ASK, PATH=str(tmp_path), CXX="", XDG_CACHE_HOME=str(tmp_path)) == "0"


def test_a_compiler_that_fails_is_no_compiler(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    broken.chmod(0o755)
    assert run(ASK, CXX=str(broken), XDG_CACHE_HOME=str(tmp_path)) == "0"
    assert not list((tmp_path / "onlooker" / "native").iterdir())


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "onlooker").write_text("in the way")
    assert run(ASK, XDG_CACHE_HOME=str(tmp_path)) == "0"


@pytest.mark.skipif(build.find_compiler() is None, reason="no compiler")
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = build.build("linear")
    assert first is not None and list(first.parent.iterdir()) == [first]
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build.build("linear") == first


def test_a_user_without_a_home_has_no_library(tmp_path: Path) -> None:
    """As in a container that is started under a number."""
    no_user = "import os, pwd\nfor name in ('HOME', 'XDG_CACHE_HOME'): os.environ.pop(name, None)\n"
    no_user += "def unknown(*_): raise KeyError\npwd.getpwuid = unknown\n"
    assert run(no_user + ASK) == "0"
