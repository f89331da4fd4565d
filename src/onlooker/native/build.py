"""Compiles a C++ source with the system's compiler, once for each source, compiler and kind of processor."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

#: No -march: functions name the instructions that they need, and are only called where the processor has them.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-w")
_SECONDS = 120


def find_compiler() -> str | None:
    """The system's C++ compiler: $CXX, else c++, g++ or clang++."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def cache_folder() -> Path:
    """Where compiled libraries are kept: $XDG_CACHE_HOME/onlooker/native."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onlooker" / "native"


def load(name: str) -> ctypes.CDLL | None:
    """The functions of one source; None where they cannot be had, or ONLOOKER_NATIVE is 0."""
    path = None if os.environ.get("ONLOOKER_NATIVE", "1") == "0" else build(name)
    try:
        return None if path is None else ctypes.CDLL(str(path))
    except OSError:  # compiled for another system, or a folder that nothing may be run from
        return None


def build(name: str) -> Path | None:
    """The library made of one source, from the cache or made now; None where there is no compiler, or it fails.

    Args:
        name: of the source in this folder, without .cpp; every source is a library of its own.
    """
    compiler = find_compiler()
    if compiler is None or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    try:
        source = Path(__file__).with_name(f"{name}.cpp")
        library = cache_folder() / f"{name}-{_key(compiler, source)}.so"
        if not library.exists():
            _compile(compiler, source, library)
    # A folder that cannot be written, a user without a home, a compiler that does not work.
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None
    return library


def _key(compiler: str, source: Path) -> str:
    """What the result depends on; an updated compiler is another one."""
    real = Path(compiler).resolve()
    state = real.stat()
    texts = [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]
    parts = (texts, str(real), state.st_size, state.st_mtime_ns, FLAGS, _processor())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _processor() -> str:
    """The features of the processor: a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")


def _compile(compiler: str, source: Path, library: Path) -> None:
    """Compile beside the place and move there at the end: several processes may do this at once."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(suffix=".so", dir=library.parent)
    os.close(handle)
    try:
        subprocess.run([compiler, *FLAGS, str(source), "-o", name], check=True, capture_output=True, timeout=_SECONDS)
        os.replace(name, library)
    finally:
        Path(name).unlink(missing_ok=True)
