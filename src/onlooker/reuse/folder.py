"""Entries as safetensors files in a folder, the least recently used ones deleted before a budget is exceeded."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from onlooker.reuse.entry import Entry

_OURS = re.compile(r"[a-z]+-[0-9a-f]{64}\.safetensors")
_PART = re.compile(r"\.[a-z]+-[0-9a-f]{64}\.safetensors\.\d+-\d+\.part")
_PART_SECONDS = 3600.0  # a part this old was left behind by a process that died
_HEADER = 64 * 1024  # bytes, more than names and facts of an entry take
_MARK, _FACT = "onlooker.", "fact."


class Folder:
    """Shared by threads, and by processes (whose budgets are then each held as of their own last look).

    A file that is damaged, cut short, or not one of ours is as if it were not there. Files are written beside their
    place and moved there, so that nobody reads half of one.

    Args:
        path: made when it is not there; its files are trusted, so keep it as private as the checkpoints.
        budget: bytes of all entries together.
    """

    def __init__(self, path: str | os.PathLike[str], budget: int) -> None:
        if budget < 0:
            raise ValueError(f"folder_bytes is {budget}; give the bytes to use at most")
        self.path = Path(path).expanduser()
        self.budget = budget
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of all entries, and of those that are just being written."""
        return sum(size for _, size, _ in self._files())

    def get(self, name: str) -> Entry | None:
        """The entry of this name, on the CPU."""
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                words = file.metadata() or {}
                # clone: what is kept must not change with the file
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError):
            return None
        if words.get(f"{_MARK}name") != name or words.get(f"{_MARK}crc32") != _checksum(tensors):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used just now
        facts = {key.removeprefix(_FACT): value for key, value in words.items() if key.startswith(_FACT)}
        return Entry(tensors, facts)

    def put(self, name: str, entry: Entry) -> bool:
        """Write an entry; False when it is larger than the whole budget.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.torch import save_file

        tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in entry.tensors.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + _HEADER
        if size > self.budget:
            return False
        words = {f"{_MARK}name": name, f"{_MARK}crc32": _checksum(tensors)}
        words |= {f"{_FACT}{key}": value for key, value in entry.facts.items()}
        path = self._path(name)
        part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        with self._lock:
            self._make_room(size)
            try:
                save_file(_unshared(tensors), part, words)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
        return True

    def clear(self) -> None:
        """Delete the entries; other files stay."""
        with self._lock:
            for path, _, _ in self._files():
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"

    def _make_room(self, size: int) -> None:
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(each for _, each, _ in files)
        old = time.time() - _PART_SECONDS
        for path, each, used in files:
            if path.suffix == ".part" and used > old:
                continue
            if total + size > self.budget or path.suffix == ".part":
                path.unlink(missing_ok=True)
                total -= each

    def _files(self) -> list[tuple[Path, int, float]]:
        """Path, bytes and last use of what is ours; everything else in the folder is left alone."""
        found = []
        for each in os.scandir(self.path):
            if not (_OURS.fullmatch(each.name) or _PART.fullmatch(each.name)):
                continue
            try:
                if not each.is_file(follow_symlinks=False):
                    continue
                facts = each.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process was faster
                continue
            found.append((Path(each.path), facts.st_size, facts.st_mtime))
        return found


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of names, dtypes, shapes and values: the format itself does not see a flipped bit."""
    found = 0
    for key in sorted(tensors):
        tensor = tensors[key]
        found = zlib.crc32(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        if tensor.numel():
            found = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The format refuses tensors that share memory."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        result[key] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return result
